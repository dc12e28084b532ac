"""The pure boundary of the models: everything outside works on `params` and arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from calib_jax.core.errors import DataError
from calib_jax.core.types import Params
from calib_jax.models.clip import ImageTower, TextTower
from calib_jax.models.config import ClipConfig, Compute, ResNetConfig
from calib_jax.models.resnet import ResNetTower


@dataclass(frozen=True)
class Encoder:
    """A CLIP model as pure functions of its parameters; holds no arrays.

    The parameters are `{"image": ..., "text": ..., "logit_scale": log of the scale}`, the same
    for every `compute`. Encoders of equal configs are equal, and share what `jax.jit` compiled
    for them as a static argument.
    """

    config: ClipConfig
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        self.config.validate()
        self.compute.validate("compute")

    def __hash__(self) -> int:
        return hash(repr(self))

    def init(self, key: Key[Array, ""]) -> Params:
        """Returns float32 parameters drawn as OpenAI's CLIP draws them."""
        image_key, text_key = jax.random.split(key)
        size = self.config.vision.image_size
        pixels = jnp.zeros((1, size, size, 3), jnp.float32)
        tokens = jnp.zeros((1, 1), jnp.int32)
        return {
            "image": self._image_tower().init(image_key, pixels)["params"],
            "text": TextTower(self.config, self.compute).init(text_key, tokens)["params"],
            "logit_scale": jnp.float32(math.log(self.config.initial_logit_scale)),
        }

    def encode_image(self, params: Params, images: UInt8[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns float32 image embeddings, not normalised.

        Args:
            params: The encoder's parameters.
            images: RGB in 0..255, already of the model's size.

        Raises:
            DataError: The images have another size or dtype than the model takes.
        """
        check_images(images, self.config)
        mean, std = (
            jnp.array(x, jnp.float32).reshape(1, 1, 1, 3)
            for x in (self.config.pixel_mean, self.config.pixel_std)
        )
        pixels = (images.astype(jnp.float32) / 255 - mean) / std
        return cast(Array, self._image_tower().apply({"params": params["image"]}, pixels))

    def encode_text(self, params: Params, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
        """Returns float32 text embeddings, not normalised.

        Args:
            params: The encoder's parameters.
            tokens: Token ids; the largest of a row ends it, what follows is padding. Rows
                may be cut anywhere after their end: the tower is causal, so this is exact.

        Raises:
            DataError: The rows are longer than the model's context.
        """
        limit = self.config.text.context_length
        if tokens.shape[1] > limit:
            raise DataError(
                f"tokens: got rows of {tokens.shape[1]}, expected at most context_length = "
                f"{limit}. Cut or re-tokenize them."
            )
        tower = TextTower(self.config, self.compute)
        return cast(Array, tower.apply({"params": params["text"]}, tokens))

    def logit_scale(self, params: Params) -> Float[Array, ""]:
        """Returns the factor from cosines to logits: the exponential of the parameter."""
        return jnp.exp(jnp.asarray(params["logit_scale"], jnp.float32))

    def image_projection(self, params: Params) -> Float[Array, "w d"]:
        """Returns the matrix from the image tower's features to the embedding.

        Of a ResNet it is OpenAI's `attnpool.c_proj` without its bias: its features are what the
        attention pooling gives.
        """
        return params["image"]["projection"]["kernel"]

    def text_projection(self, params: Params) -> Float[Array, "v d"]:
        """Returns the matrix from the text tower's features to the embedding."""
        return params["text"]["projection"]["kernel"]

    def _image_tower(self) -> ImageTower | ResNetTower:
        is_resnet = isinstance(self.config.vision, ResNetConfig)
        return (ResNetTower if is_resnet else ImageTower)(self.config, self.compute)


def check_images(images: Shaped[Array, "..."], config: ClipConfig) -> None:
    """Passes when `images` is uint8 [b, image_size, image_size, 3]; works while tracing.

    Raises:
        DataError: Another shape or dtype; floats would be normalised twice, silently.
    """
    size = config.vision.image_size
    if images.shape[1:] != (size, size, 3):
        raise DataError(
            f"images: got shape {images.shape}, expected [b, {size}, {size}, 3]. "
            f"Resize them to image_size = {size}."
        )
    if images.dtype != jnp.uint8:
        raise DataError(
            f"images: got {images.dtype}, expected uint8 in 0..255. "
            "Pass raw pixels; the encoder normalises them."
        )
