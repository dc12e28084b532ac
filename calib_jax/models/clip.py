"""CLIP's two transformers (Radford et al. 2021, arXiv:2103.00020)."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from calib_jax.core.errors import ConfigError
from calib_jax.models import layers
from calib_jax.models.config import ClipConfig, Compute, TextConfig, VisionConfig


class ImageTower(nn.Module):
    """Pre-norm ViT: patches and a class token, pooled at the class token."""

    config: ClipConfig
    compute: Compute

    @nn.compact
    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns float32 image embeddings, not normalised, of pixels of mean 0 and std 1."""
        vision = self.config.vision
        if not isinstance(vision, VisionConfig):
            raise ConfigError(
                f"vision: got {type(vision).__name__}, expected VisionConfig. Use ResNetTower."
            )
        dtype = self.compute.resolve_dtype(layers.platform())
        init = nn.initializers.normal(vision.width**-0.5)
        num_tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        class_emb = self.param("class_embedding", init, (vision.width,), jnp.float32)
        positions = self.param("position_embedding", init, (num_tokens, vision.width), jnp.float32)
        patches = layers.PatchEmbed(vision.width, vision.patch_size, dtype, name="patch")(pixels)
        first = jnp.broadcast_to(class_emb, (len(pixels), 1, vision.width))
        x = jnp.concatenate([first, patches.astype(class_emb.dtype)], axis=1) + positions[None]
        x = layers.layer_norm(x, name="norm_pre").astype(dtype)
        x = _read(x, self, vision, jnp.zeros(len(pixels), jnp.int32), is_causal=False)
        x = layers.layer_norm(x.astype(jnp.float32), name="norm_post")
        return layers.project(x, self.config.embed_dim, use_bias=False)


class TextTower(nn.Module):
    """Causal transformer, pooled at the end-of-text token."""

    config: ClipConfig
    compute: Compute

    @nn.compact
    def __call__(self, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
        """Returns float32 text embeddings, not normalised; `t` may be below the context length.

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
        x = jnp.take(token_emb, tokens, axis=0, mode="fill") + positions[None, : tokens.shape[1]]
        x = x.astype(self.compute.resolve_dtype(layers.platform()))
        x = _read(x, self, text, jnp.argmax(tokens, axis=-1), is_causal=True)
        x = layers.layer_norm(x.astype(jnp.float32), name="norm_final")
        return layers.project(x, self.config.embed_dim, use_bias=False)


def _read(
    x: Float[Array, "b t w"],
    tower: ImageTower | TextTower,
    size: VisionConfig | TextConfig,
    read: Int[Array, " b"],
    *,
    is_causal: bool,
) -> Float[Array, "b w"]:
    """Row read[i] of every x[i] after the blocks."""
    compute = tower.compute
    block = layers.Block(
        num_heads=size.num_heads,
        mlp_width=size.mlp_width,
        activation=tower.config.activation,
        is_causal=is_causal,
        out_std=layers.residual_std(size.width, size.num_layers),
        attention=compute.resolve_attention(
            layers.platform(), head_size=size.width // size.num_heads
        ),
        parent=None,
    )
    x = layers.transformer(
        x,
        tower,
        block,
        num_layers=size.num_layers,
        scan=compute.scan,
        remat=compute.remat,
        read=read,
    )
    return x[:, 0]
