"""The types that cross layers.

Dimension letters, one meaning everywhere: b batch, n examples of a split,
c classes, d embedding, t text length, h w image, p patches, m bins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8

from calib_jax.core.errors import ConfigError

Params = Mapping[str, Any]
"""A tree of arrays keyed by the names of the Linen modules."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """One training batch; pixels stay uint8 until the encoder normalises them.

    Attributes:
        image: Pixels in 0..255; with taps, of a canvas larger than the model's images.
        label: Class indices.
        caption: Rows of the caption table `Int[rows t]`.
        mask: False on padding rows.
        taps: What `resampling.resample` makes the model's images with, where the device resizes.
        features: Un-normalised image features of an encoder that stays as it is; then `image` is
            empty, [b 0 0 3].
    """

    image: UInt8[Array | np.ndarray, "b h w 3"]
    label: Int[Array | np.ndarray, " b"]
    caption: Int[Array | np.ndarray, " b"]
    mask: Bool[Array | np.ndarray, " b"]
    taps: Int32[Array | np.ndarray, "b 2 o k"] | None = None
    features: Float[Array | np.ndarray, "b d"] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Unit-norm embeddings of image-text pairs and the exponentiated logit scale of one model."""

    image: Float[Array, "b d"]
    text: Float[Array, "b d"]
    logit_scale: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What one model says about a whole split: host arrays in the split's order, no padding.

    Attributes:
        logits: Class scores before the softmax.
        labels: Class indices (of the OOD set's own classes, for an OOD set).
        features: Un-normalised image embeddings.
        class_embeddings: Unit-norm class prototypes: class text embeddings, or a linear head's
            columns; None where the head has none.
    """

    logits: Float[np.ndarray, "n c"]
    labels: Int[np.ndarray, " n"]
    features: Float[np.ndarray, "n d"]
    class_embeddings: Float[np.ndarray, "c d"] | None = None

    def similarities(self) -> Float[np.ndarray, "n c"]:
        """Cosine similarities of image and class embeddings, in -1..1.

        Raises:
            ConfigError: The head has no class embeddings.
        """
        if self.class_embeddings is None:
            raise ConfigError(
                "similarities: got predictions of a head without class embeddings, expected one "
                "with class_embeddings(). Add the method to the head, or leave out the scores of "
                "similarities (mcm, max_similarity)."
            )
        norms = np.linalg.norm(self.features, axis=-1, keepdims=True)
        return (self.features / np.maximum(norms, 1e-12)) @ self.class_embeddings.T
