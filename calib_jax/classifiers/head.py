"""The classifier protocol, and the head that every classifier of this package comes down to."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Key
from tqdm import tqdm

from calib_jax.core.linalg import normalize
from calib_jax.core.sharding import batched
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


PROMPTS_AT_ONCE = 1024


def class_text_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "c d"]:
    """The unit-norm mean over the k prompts of each class of their unit-norm text embeddings.

    The zero-shot head of CLIP (arXiv 2103.00020, section 3.1.4). Outside of `jax.jit`, a table of
    many prompts goes through the text tower in portions, split over all devices, under a
    progress bar; inside, all at once.
    """
    num_classes, num_prompts, _ = class_tokens.shape
    is_traced = any(
        isinstance(leaf, jax.core.Tracer)
        for leaf in jax.tree.leaves((encoder_params["text"], class_tokens))
    )
    if is_traced or num_classes * num_prompts <= PROMPTS_AT_ONCE:
        return _mean_embeddings(encoder, encoder_params, class_tokens)
    return _streamed_embeddings(encoder, encoder_params, class_tokens)


@partial(jax.jit, static_argnames="encoder")
def _mean_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "c d"]:
    num_classes, num_prompts, length = class_tokens.shape
    features = encoder.encode_text(encoder_params, class_tokens.reshape(-1, length))
    prompts = normalize(features).reshape(num_classes, num_prompts, -1)
    return normalize(jnp.mean(prompts, axis=1))


def _streamed_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "c d"]:
    num_classes, num_prompts, _ = class_tokens.shape
    sharding = class_tokens.sharding
    spread = batched(sharding.mesh) if isinstance(sharding, NamedSharding) else sharding
    devices = sharding.num_devices
    size = -(-max(1, PROMPTS_AT_ONCE // num_prompts) // devices) * devices
    host_tokens = np.asarray(class_tokens)
    # Every portion has the same shape, so that one compilation serves them all.
    padded = np.resize(host_tokens, (-(-num_classes // size) * size, *host_tokens.shape[1:]))
    portions = []
    for start in tqdm(range(0, len(padded), size), desc="text head", unit="portion", delay=2):
        tokens = jax.device_put(padded[start : start + size], spread)
        embeddings = _mean_embeddings(encoder, encoder_params, tokens)
        portions.append(jax.block_until_ready(embeddings))
    joined = jax.jit(lambda parts: jnp.concatenate(parts)[:num_classes], out_shardings=sharding)
    return joined(portions)
