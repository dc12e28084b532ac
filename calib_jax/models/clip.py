"""CLIP's two towers (Radford et al. 2021, arXiv:2103.00020) and the config that sizes them.

No `from __future__ import annotations` here: it breaks typed flag overrides of the config.
"""

import math
from dataclasses import dataclass, field, fields

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.models import layers


@dataclass(kw_only=True)
class VisionConfig:
    """Size of the image tower; sizes in pixels."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12


@dataclass(kw_only=True)
class TextConfig:
    """Size of the text tower; the largest token id of a row marks its end."""

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    num_layers: int = 12
    num_heads: int = 8


@dataclass(kw_only=True)
class ClipConfig:
    """Both towers and what joins them.

    Attributes:
        embed_dim: Size of the shared embedding.
        vision: The image tower.
        text: The text tower.
        activation: `quick_gelu` (OpenAI's weights) or `gelu`.
        initial_logit_scale: Inverse temperature at initialisation; its log is the parameter.
        pixel_mean: Mean of red, green, blue, subtracted from pixels in [0, 1].
        pixel_std: Standard deviation of red, green, blue, pixels in [0, 1].
    """

    embed_dim: int = 512
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    activation: str = "quick_gelu"
    initial_logit_scale: float = 1 / 0.07
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def validate(self) -> None:
        """Passes when the towers can be built.

        Raises:
            ConfigError: The first field out of its range, with the value and the range.
        """
        sizes = {"embed_dim": self.embed_dim}
        for name, tower in (("vision", self.vision), ("text", self.text)):
            sizes |= {f"{name}.{f.name}": getattr(tower, f.name) for f in fields(tower)}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name}: got {size}, expected at least 1. Raise it.")
        _validate_divides("vision.patch_size", sizes, "vision.image_size")
        _validate_divides("vision.num_heads", sizes, "vision.width")
        _validate_divides("text.num_heads", sizes, "text.width")
        if self.activation not in layers.ACTIVATIONS:
            raise ConfigError(
                f"activation: got {self.activation!r}, expected one of "
                f"{sorted(layers.ACTIVATIONS)}.{nearest(self.activation, layers.ACTIVATIONS)}"
            )
        if not 0 < self.initial_logit_scale < math.inf:
            raise ConfigError(
                f"initial_logit_scale: got {self.initial_logit_scale}, expected a finite number "
                "above 0. CLIP's is 1 / 0.07."
            )
        if len(self.pixel_mean) != 3 or not all(map(math.isfinite, self.pixel_mean)):
            raise ConfigError(
                f"pixel_mean: got {self.pixel_mean}, expected three finite numbers. "
                "Give red, green, blue in [0, 1]."
            )
        if len(self.pixel_std) != 3 or not all(0 < s < math.inf for s in self.pixel_std):
            raise ConfigError(
                f"pixel_std: got {self.pixel_std}, expected three finite numbers above 0. "
                "Give red, green, blue."
            )


def _validate_divides(name: str, sizes: dict[str, int], of: str) -> None:
    if sizes[of] % sizes[name]:
        raise ConfigError(
            f"{name}: got {sizes[name]}, expected a divisor of {of} = {sizes[of]}. "
            "Change one of them."
        )


class ImageTower(nn.Module):
    """Pre-norm ViT: patches and a class token, pooled at the class token."""

    config: ClipConfig

    @nn.compact
    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns image embeddings, not normalised, of pixels that are (mean 0, std 1)."""
        vision = self.config.vision
        init = nn.initializers.normal(vision.width**-0.5)
        num_tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        class_emb = self.param("class_embedding", init, (vision.width,), jnp.float32)
        positions = self.param("position_embedding", init, (num_tokens, vision.width), jnp.float32)
        patches = layers.PatchEmbed(vision.width, vision.patch_size, name="patch")(pixels)
        first = jnp.broadcast_to(class_emb, (len(pixels), 1, vision.width))
        x = jnp.concatenate([first, patches], axis=1) + positions[None]
        x = layers.layer_norm(x, name="norm_pre")
        x = layers.transformer(
            x,
            num_layers=vision.num_layers,
            num_heads=vision.num_heads,
            activation=self.config.activation,
            is_causal=False,
        )
        return _project(layers.layer_norm(x[:, 0], name="norm_post"), self.config.embed_dim)


class TextTower(nn.Module):
    """Causal transformer, pooled at the end-of-text token."""

    config: ClipConfig

    @nn.compact
    def __call__(self, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
        """Returns text embeddings, not normalised; `t` may be below the context length.

        Rows are pooled at their first largest token id, so what follows it (padding) has
        no influence. A token id beyond the vocabulary gives NaN.
        """
        text = self.config.text
        shape = (text.vocab_size, text.width)
        token_emb = self.param("token_embedding", nn.initializers.normal(0.02), shape, jnp.float32)
        positions = self.param(
            "position_embedding",
            nn.initializers.normal(0.01),
            (text.context_length, text.width),
            jnp.float32,
        )
        x = jnp.take(token_emb, tokens, axis=0, mode="fill")
        x = layers.transformer(
            x + positions[None, : tokens.shape[1]],
            num_layers=text.num_layers,
            num_heads=text.num_heads,
            activation=self.config.activation,
            is_causal=True,
        )
        eot = jnp.argmax(tokens, axis=-1)
        x = jnp.take_along_axis(x, eot[:, None, None], axis=1)[:, 0]
        return _project(layers.layer_norm(x, name="norm_final"), self.config.embed_dim)


def _project(x: Float[Array, "b w"], embed_dim: int) -> Float[Array, "b d"]:
    init = nn.initializers.normal(x.shape[-1] ** -0.5)
    return nn.Dense(embed_dim, use_bias=False, kernel_init=init, name="projection")(x)
