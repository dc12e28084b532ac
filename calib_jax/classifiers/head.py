"""The protocols of classifiers and of the heads that they make; the linear map as a head."""

from __future__ import annotations

import dataclasses
import pathlib
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, Key

from calib_jax.core import progress
from calib_jax.core.errors import ConfigError
from calib_jax.core.linalg import normalize
from calib_jax.core.sharding import batched
from calib_jax.core.types import Params
from calib_jax.models.encoder import Encoder


@runtime_checkable
class Head(Protocol):
    """What makes class logits of image features.

    It is a pytree, so that one compiled function serves all heads of a class: a frozen dataclass
    under `jax.tree_util.register_dataclass`, its settings as static fields.
    """

    def logits(self, image_features: Float[Array, "b d"]) -> Float[Array, "b c"]:
        """Class logits in float32; the features come as the image tower makes them."""


@runtime_checkable
class PrototypeHead(Head, Protocol):
    """A head whose classes have a direction each among the features, for scores of cosines."""

    def class_embeddings(self) -> Float[Array, "c d"]:
        """The unit-norm direction of each class."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinearMap:
    """A linear map of unit-norm image features to class logits: the head that files can hold."""

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
    """Owns the parameters that the encoder does not, and makes the head from both.

    Attributes:
        head_type: The class of its heads: what the heads can be used for is known before any is
            made.
    """

    head_type: ClassVar[type[Head]]

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


@runtime_checkable
class FileClassifier(Classifier, Protocol):
    """A classifier that reads files: what a run depends on is their content, not their names."""

    def files(self) -> tuple[pathlib.Path, ...]:
        """What it reads."""


def check_tree(head: Head, classifier: Classifier) -> None:
    """Raises a ConfigError for a head that cannot be an argument of a compiled function."""
    if all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(head)):
        return
    raise ConfigError(
        f"classifier: the {type(head).__name__} of {type(classifier).__name__} is no tree of "
        "arrays, expected a pytree. Put @jax.tree_util.register_dataclass above the class."
    )


PROMPTS_AT_ONCE = 1024
_LENGTH_STEP = 8


def class_text_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "c d"]:
    """The unit-norm mean over the k prompts of each class of their unit-norm text embeddings.

    The zero-shot head of CLIP (arXiv 2103.00020, section 3.1.4).
    """
    return normalize(jnp.mean(prompt_embeddings(encoder, encoder_params, class_tokens), axis=1))


def prompt_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "c k d"]:
    """The unit-norm text embedding of every prompt.

    Outside of `jax.jit`, a table of many prompts goes through the text tower in portions of similar
    length, split over all devices, with progress; inside, all at once.
    """
    num_classes, num_prompts, length = class_tokens.shape
    is_traced = any(
        isinstance(leaf, jax.core.Tracer)
        for leaf in jax.tree.leaves((encoder_params["text"], class_tokens))
    )
    if is_traced or num_classes * num_prompts <= PROMPTS_AT_ONCE:
        rows = _text_embeddings(encoder, encoder_params, class_tokens.reshape(-1, length))
    else:
        rows = _streamed_embeddings(encoder, encoder_params, class_tokens)
    return rows.reshape(num_classes, num_prompts, -1)


@partial(jax.jit, static_argnames="encoder")
def _text_embeddings(
    encoder: Encoder, encoder_params: Params, tokens: Int[Array, "n t"]
) -> Float[Array, "n d"]:
    return normalize(encoder.encode_text(encoder_params, tokens))


def _streamed_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "n d"]:
    sharding = class_tokens.sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    spread = batched(mesh) if isinstance(mesh, Mesh) else sharding
    size = -(-PROMPTS_AT_ONCE // sharding.num_devices) * sharding.num_devices
    length = class_tokens.shape[-1]
    tokens = np.asarray(class_tokens).reshape(-1, length)
    # Short prompts first, without their padding: most of a table is far shorter than its longest.
    ends = tokens.argmax(axis=1) + 1
    order = np.argsort(ends, kind="stable")
    embeddings = np.empty((len(tokens), encoder.config.embed_dim), np.float32)
    board = progress.board()
    with board.stage("text head", total=len(tokens), unit="prompt", is_minor=True) as stage:
        for start in range(0, len(tokens), size):
            rows = order[start : start + size]
            end = min(-(-int(ends[rows[-1]]) // _LENGTH_STEP) * _LENGTH_STEP, length)
            # The last portion is filled up: every shape is compiled once.
            portion = jax.device_put(tokens[np.resize(rows, size), :end], spread)
            found = _text_embeddings(encoder, encoder_params, portion)
            embeddings[rows] = multihost_utils.process_allgather(found, tiled=True)[: len(rows)]
            stage.advance(len(rows))
    return jax.device_put(embeddings, sharding)
