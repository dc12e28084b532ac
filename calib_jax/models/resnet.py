"""CLIP's ModifiedResNet (section 2.3 of arXiv:2103.00020; `clip/model.py` of OpenAI's code).

Three convolutions for a stem, average pools where others have strides, attention pooling.

Batch norms use their stored statistics, in training too. Fine-tuning batches are small and of
another distribution. Their own statistics would be noisy, differ between the student and its
teacher, and move the model away from the pre-trained one before any step was taken. (CaRot's
code has the student use those of the batch and the teacher those of the pre-training.) They are
leaves of the parameters (`mean`, `var`) that `core.trees.trainable_mask` leaves out. Training
from nothing would need batch statistics: it is not what this tower is for.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.models import layers
from calib_jax.models.config import ClipConfig, Compute, ResNetConfig

EXPANSION = 4  # channels that leave a bottleneck, over those inside


class FrozenBatchNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) scale + bias, by the stored mean and variance."""

    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns x normalised in float32, in x's dtype."""
        ones, zeros, shape = nn.initializers.ones, nn.initializers.zeros, x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape, jnp.float32)
        bias = self.param("bias", zeros, shape, jnp.float32)
        mean = self.param("mean", zeros, shape, jnp.float32)
        var = self.param("var", ones, shape, jnp.float32)
        factor = scale * jax.lax.rsqrt(var.astype(jnp.float32) + 1e-5)
        y = (x.astype(jnp.float32) - mean[None, None, None]) * factor[None, None, None]
        return (y + bias[None, None, None]).astype(x.dtype)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; both are average-pooled by `stride`."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        """Returns 4 x width channels at 1 / stride of the size."""
        features = EXPANSION * self.width
        y = nn.relu(_conv_norm(x, self.width, 1, name="conv_1", norm="norm_1"))
        y = nn.relu(_conv_norm(y, self.width, 3, name="conv_2", norm="norm_2"))
        y = _average_pool(y, self.stride)
        # OpenAI's CLIP starts each block as its shortcut.
        zeros = nn.initializers.zeros
        y = _conv_norm(y, features, 1, name="conv_3", norm="norm_3", scale_init=zeros)
        if self.stride > 1 or x.shape[-1] != features:
            x = _average_pool(x, self.stride)
            x = _conv_norm(x, features, 1, name="shortcut_conv", norm="shortcut_norm")
        return nn.relu(x + y)


class BlockStage(nn.Module):
    """Bottlenecks of one width, the first of them with the stride."""

    width: int
    num_blocks: int
    stride: int
    remat: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        """Returns x after `block_0`, `block_1`, ..."""
        for i in range(self.num_blocks):
            block = Bottleneck(self.width, self.stride if i == 0 else 1, parent=None)
            x = layers.apply_block(x, self, block, name=f"block_{i}", remat=self.remat)
        return x


class AttentionPool(nn.Module):
    """Attention of the mean over the grid to itself and every cell; no output projection."""

    num_heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
        """Returns one attended vector an image, in x's dtype; the softmax is float32."""
        b, h, w, width = x.shape
        positions = self.param(
            "position_embedding",
            nn.initializers.normal(width**-0.5),
            (1 + h * w, width),
            jnp.float32,
        )
        cells = x.reshape(b, h * w, width).astype(jnp.float32)
        tokens = jnp.concatenate([cells.mean(1, keepdims=True), cells], axis=1) + positions[None]
        tokens = tokens.astype(x.dtype)
        query, key, value = (
            layers.dense(rows, width, std=width**-0.5, name=name).reshape(
                b, -1, self.num_heads, width // self.num_heads
            )
            for name, rows in (("query", tokens[:, :1]), ("key", tokens), ("value", tokens))
        )
        # One query an image: a fused kernel has nothing to save.
        y = jax.nn.dot_product_attention(query, key, value, implementation="xla")
        return y.reshape(b, width)


class ResNetTower(nn.Module):
    """The ModifiedResNet; its `projection` is OpenAI's `attnpool.c_proj`."""

    config: ClipConfig
    compute: Compute

    @nn.compact
    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns float32 image embeddings, not normalised, of pixels of mean 0 and std 1."""
        vision = self.config.vision
        if not isinstance(vision, ResNetConfig):
            raise ConfigError(
                f"vision: got {type(vision).__name__}, expected ResNetConfig. Use ImageTower."
            )
        x = pixels.astype(self.compute.resolve_dtype(layers.platform()))
        half = vision.width // 2
        x = nn.relu(_conv_norm(x, half, 3, name="conv_1", norm="norm_1", stride=2))
        x = nn.relu(_conv_norm(x, half, 3, name="conv_2", norm="norm_2"))
        x = nn.relu(_conv_norm(x, vision.width, 3, name="conv_3", norm="norm_3"))
        x = _average_pool(x, 2)
        for i, num_blocks in enumerate(vision.num_blocks):
            x = BlockStage(
                width=vision.width * 2**i,
                num_blocks=num_blocks,
                stride=1 if i == 0 else 2,
                remat=self.compute.remat,
                name=f"stage_{i}",
            )(x)
        x = AttentionPool(vision.num_heads, name="pool")(x)
        return layers.project(x, self.config.embed_dim, use_bias=True)


def _conv_norm(
    x: Float[Array, "b h w c"],
    features: int,
    size: int,
    *,
    name: str,
    norm: str,
    stride: int = 1,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Float[Array, "b i j k"]:
    """A bias-free convolution in x's dtype, and the batch norm after it."""
    x = nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        # torch's default: uniform, variance 1 / (3 fan_in)
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        dtype=x.dtype,
        name=name,
    )(x)
    return FrozenBatchNorm(scale_init, name=norm)(x)


def _average_pool(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b i j c"]:
    if size == 1:
        return x
    b, h, w, c = x.shape
    # Faster than a window, and summed in float32.
    return x.reshape(b, h // size, size, w // size, size, c).mean((2, 4))
