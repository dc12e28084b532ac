"""The classifier protocol, and the head that every classifier of this package comes down to."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from calib_jax.core.linalg import normalize
from calib_jax.core.types import Params
from calib_jax.models.encoder import Encoder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Head:
    """A linear map of unit-norm image features to class logits."""

    kernel: Float[Array, "d c"]
    bias: Float[Array, " c"]

    def logits(self, image_features: Float[Array, "b d"]) -> Float[Array, "b c"]:
        """Class logits in float32: `normalize(features) @ kernel + bias`."""
        unit = normalize(image_features)
        product = jnp.matmul(unit, self.kernel, precision=jax.lax.Precision.HIGHEST)
        return product + self.bias

    def class_embeddings(self) -> Float[Array, "c d"]:
        """The unit-norm direction of each class."""
        return normalize(self.kernel.T)


@runtime_checkable
class Classifier(Protocol):
    """Owns the parameters that the encoder does not, and makes the head from both."""

    def init(
        self,
        key: Key[Array, ""],
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> Params:
        """The classifier's own parameters; empty if it has none."""

    def head(
        self,
        params: Params,
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> Head:
        """The head for the present parameters, differentiable with respect to both trees."""


def class_text_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "c d"]:
    """The unit-norm mean over the k prompts of each class of their unit-norm text embeddings.

    The zero-shot head of CLIP (arXiv 2103.00020, section 3.1.4).
    """
    num_classes, num_prompts, length = class_tokens.shape
    features = encoder.encode_text(encoder_params, class_tokens.reshape(-1, length))
    prompts = normalize(features).reshape(num_classes, num_prompts, -1)
    return normalize(jnp.mean(prompts, axis=1))
