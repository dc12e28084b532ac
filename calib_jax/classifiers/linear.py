"""A linear head on unit-norm image features."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from calib_jax.classifiers.head import Head, LinearMap
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.types import Params
from calib_jax.models.encoder import Encoder


@dataclasses.dataclass(kw_only=True)
class LinearHead:
    """Weights and a bias, initialised with the zero-shot head.

    WiSE-FT (arXiv 2109.01903): the class text embeddings times the exponentiated
    logit scale; the features are normalised, and the scale is inside the weights.
    """

    head_type: ClassVar[type[Head]] = LinearMap

    def init(
        self,
        key: Key[Array, ""],
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> Params:
        """`kernel [d c]` from the zero-shot head and `bias [c]` of zeros."""
        head = ZeroShot().head({}, encoder, encoder_params, class_tokens)
        return {"kernel": head.kernel, "bias": jnp.zeros_like(head.bias)}

    def head(
        self,
        params: Params,
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> LinearMap:
        """The parameters as they are."""
        return LinearMap(kernel=params["kernel"], bias=params["bias"])
