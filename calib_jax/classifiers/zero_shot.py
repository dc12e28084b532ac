"""The head made of class text embeddings."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from calib_jax.classifiers.head import Head, LinearMap, class_text_embeddings
from calib_jax.core.types import Params
from calib_jax.models.encoder import Encoder


@dataclasses.dataclass(kw_only=True)
class ZeroShot:
    """No parameters of its own: the class embeddings follow the text tower."""

    head_type: ClassVar[type[Head]] = LinearMap

    def init(
        self,
        key: Key[Array, ""],
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> Params:
        """An empty tree."""
        return {}

    def head(
        self,
        params: Params,
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> LinearMap:
        """Class text embeddings times the logit scale, without a bias."""
        embeddings = class_text_embeddings(encoder, encoder_params, class_tokens)
        kernel: Float[Array, "d c"] = encoder.logit_scale(encoder_params) * embeddings.T
        return LinearMap(kernel=kernel, bias=jnp.zeros(kernel.shape[1], kernel.dtype))
