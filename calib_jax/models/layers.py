"""The transformer both towers are made of: pre-norm blocks, every module named.

Activations and matmuls have the `dtype` of a module; parameters, layer norms and the
attention softmax are float32. The tree of the parameters (`block_0`, `block_1`, ...) is the
same however the blocks are computed.
"""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

Kernel = Literal["xla", "cudnn"]


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x sigmoid(1.702 x), the GELU approximation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x Phi(x) by the error function, not its tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
}


def platform(device: Any = None) -> str:
    """Returns what `Compute` calls the platform of a device, by default of JAX's first one.

    `cuda` is an NVIDIA GPU of compute capability 8.0 or more: older ones have neither
    bfloat16 nor cuDNN's fused attention.
    """
    device = jax.devices()[0] if device is None else device
    capability = re.match(r"(\d+)\.", str(getattr(device, "compute_capability", "")))
    if device.platform == "gpu" and capability and int(capability[1]) >= 8:
        return "cuda"
    return device.platform


def layer_norm(x: Float[Array, "*n w"], *, name: str) -> Float[Array, "*n w"]:
    """Returns LayerNorm(x) in x's dtype, epsilon 1e-5; call it inside a compact module."""
    # Two-pass variance: E[x^2] - E[x]^2 cancels where the mean is large (CLIP's residual stream).
    norm = nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, use_fast_variance=False, name=name)
    return norm(x.astype(jnp.float32)).astype(x.dtype)


def dense(
    x: Float[Array, "b t w"], features: int, *, std: float, name: str
) -> Float[Array, "b t v"]:
    """Returns x W + c in x's dtype, with W drawn from N(0, std^2), inside a compact module."""
    b, t, width = x.shape
    init = nn.initializers.normal(std)
    layer = nn.Dense(features, kernel_init=init, dtype=x.dtype, name=name)
    # As a matrix: on a CPU, XLA contracts the two leading axes of the kernel's gradient in half
    # the time when they are one axis.
    return layer(x.reshape(b * t, width)).reshape(b, t, features)


def project(x: Float[Array, "b w"], embed_dim: int, *, use_bias: bool) -> Float[Array, "b d"]:
    """Returns the float32 embedding, x by the `projection` of the calling compact module."""
    return nn.Dense(
        embed_dim,
        use_bias=use_bias,
        kernel_init=nn.initializers.normal(x.shape[-1] ** -0.5),
        dtype=jnp.float32,
        # One row an image: exact float32 costs nothing, where a GPU would round to TF32.
        precision=jax.lax.Precision.HIGHEST,
        name="projection",
    )(x.astype(jnp.float32))


def take_row(x: Float[Array, "b t w"], read: Int[Array, " b"]) -> Float[Array, "b 1 w"]:
    """Returns row read[i] of every x[i]."""
    return jnp.take_along_axis(x, read[:, None, None], axis=1)


class PatchEmbed(nn.Module):
    """Patch embeddings in raster order: a bias-free convolution with stride = kernel size."""

    width: int
    patch_size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b p d"]:
        """Returns one embedding per patch, in the dtype of the module."""
        size = self.patch_size
        # torch's default convolution initialisation: uniform, variance 1 / (3 fan_in)
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        kernel = self.param("kernel", init, (size, size, 3, self.width), jnp.float32)
        b, h, w, _ = pixels.shape
        patches = pixels.astype(self.dtype).reshape(b, h // size, size, w // size, size, 3)
        # As one matmul: 1.5 to 2 times as fast as a strided convolution on CPU.
        x = jnp.einsum("bhiwjc,ijcd->bhwd", patches, kernel.astype(self.dtype))
        return x.reshape(b, -1, self.width)


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate query, key, value and output projections.

    `implementation` is `xla` or `cudnn`; the softmax of both is float32.
    """

    num_heads: int
    is_causal: bool
    out_std: float
    implementation: Kernel = "xla"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], read: Int[Array, " b"] | None = None
    ) -> Float[Array, "b q w"]:
        """Returns the attended values of all rows, or of the row that is read alone.

        With `is_causal`, row t sees rows 0..t only.
        """
        b, t, width = x.shape
        asking = x if read is None else take_row(x, read)
        query, key, value = (
            dense(rows, width, std=width**-0.5, name=name).reshape(
                b, -1, self.num_heads, width // self.num_heads
            )
            for name, rows in (("query", asking), ("key", x), ("value", x))
        )
        if read is None:
            y = jax.nn.dot_product_attention(
                query, key, value, is_causal=self.is_causal, implementation=self.implementation
            )
        else:
            # `is_causal` would take the only query for row 0.
            seen = jnp.arange(t)[None] <= read[:, None] if self.is_causal else None
            # One query an example: a fused kernel has nothing to save, and cuDNN's takes no
            # mask with an odd number of queries in training.
            y = jax.nn.dot_product_attention(
                query,
                key,
                value,
                mask=None if seen is None else seen[:, None, None],
                implementation="xla",
            )
        return dense(y.reshape(b, -1, width), width, std=self.out_std, name="out")


class Mlp(nn.Module):
    """Two dense layers with `hidden` features between them."""

    hidden: int
    activation: str
    out_std: float

    @nn.compact
    def __call__(self, x: Float[Array, "b t w"]) -> Float[Array, "b t w"]:
        """Returns the transformed rows, each on its own."""
        width = x.shape[-1]
        x = dense(x, self.hidden, std=(2 * width) ** -0.5, name="up")
        x = ACTIVATIONS[self.activation](x)
        return dense(x, width, std=self.out_std, name="down")


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    num_heads: int
    mlp_width: int
    activation: str
    is_causal: bool
    out_std: float
    attention: Kernel = "xla"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], read: Int[Array, " b"] | None = None
    ) -> Float[Array, "b q w"]:
        """Returns the updated residual stream, in its dtype: all rows, or `read` alone."""
        attention = SelfAttention(
            num_heads=self.num_heads,
            is_causal=self.is_causal,
            out_std=self.out_std,
            implementation=self.attention,
            name="attention",
        )
        attended = attention(layer_norm(x, name="norm_1"), read)
        x = (x if read is None else take_row(x, read)) + attended
        mlp = Mlp(self.mlp_width, self.activation, self.out_std, name="mlp")
        return x + mlp(layer_norm(x, name="norm_2"))


def residual_std(width: int, num_layers: int) -> float:
    """Returns the spread of what a block adds at initialisation, as OpenAI's CLIP has it.

    width^-1/2 (2 num_layers)^-1/2: the residual stream's variance does not grow with depth.
    """
    return (width * 2 * num_layers) ** -0.5


def transformer(
    x: Float[Array, "b t w"],
    tower: nn.Module,
    block: Block,
    *,
    num_layers: int,
    scan: bool,
    remat: str,
    read: Int[Array, " b"] | None = None,
) -> Float[Array, "b q w"]:
    """Returns x after `block_0`, `block_1`, ... of `tower`, the calling compact module.

    Args:
        x: The residual stream; the blocks compute in its dtype.
        tower: Holds the parameters of the blocks.
        block: What every block is like, without a parent.
        num_layers: How many there are.
        scan: Scan one block over the stacked parameters instead of unrolling.
        remat: A policy of `Compute`.
        read: The row that is read of each example. The last block computes it alone, and of the
            others their keys and values: it is all that is returned. None returns all rows.
    """
    names = [f"block_{i}" for i in range(num_layers)]
    same = names if read is None else names[:-1]
    if scan and len(same) > 1 and not tower.is_initializing():
        # Inside a scan nothing can merge what is recomputed with what was computed before.
        body = rematerialize(partial(_apply, block), remat, prevent_cse=False)
        params = [tower.variables["params"][name] for name in same]
        stacked = jax.tree.map(lambda *leaves: _stack(leaves, x.dtype), *params)
        x = jax.lax.scan(lambda x, params: (body(params, x), None), x, stacked)[0]
    else:
        for name in same:
            x = apply_block(x, tower, block, name=name, remat=remat)
    if read is None:
        return x
    return apply_block(x, tower, block, read, name=names[-1], remat=remat)


def apply_block(
    x: Float[Array, "..."],
    tower: nn.Module,
    block: nn.Module,
    *inputs: Array,
    name: str,
    remat: str,
) -> Float[Array, "..."]:
    """Returns what `block`, which has no parent, makes of x with `tower`'s parameters `name`.

    `inputs` are what the block takes besides x.
    """
    if tower.is_initializing():
        return block.clone(parent=tower, name=name)(x, *inputs)
    return _traced_once(block, remat)(tower.variables["params"][name], x, *inputs)


@lru_cache(maxsize=64)
def _traced_once(block: nn.Module, remat: str) -> Callable[..., Any]:
    """Returns the block as a function of which JAX traces one copy for all that are alike.

    XLA inlines it: what is compiled is the same.
    """
    return jax.jit(rematerialize(partial(_apply, block), remat))


def _apply(block: nn.Module, params: Any, *inputs: Array) -> Any:
    return block.apply({"params": params}, *inputs)


def rematerialize(
    function: Callable[..., Any], remat: str, *, prevent_cse: bool = True
) -> Callable[..., Any]:
    """Returns the function, with its backward pass recomputing what the policy says."""
    if remat == "none":
        return function
    policy = _save_matmuls if remat == "dots" else None
    return jax.checkpoint(function, policy=policy, prevent_cse=prevent_cse)


def _save_matmuls(primitive: Any, *args: Any, **params: Any) -> Any:
    """Keeps products with weights; attention's, with batch axes, grow with the square of t."""
    if primitive is jax.lax.conv_general_dilated_p:
        return True
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)


def _stack(leaves: tuple[Array, ...], dtype: Any) -> Array:
    # Matrices are cast before they are copied, not in every step of the scan.
    return jnp.stack([leaf.astype(dtype) if leaf.ndim > 1 else leaf for leaf in leaves])
