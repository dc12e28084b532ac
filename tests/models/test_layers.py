import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from calib_jax.models import layers


def test_activations_match_closed_forms():
    x = np.linspace(-6, 6, 41)
    np.testing.assert_allclose(
        layers.quick_gelu(jnp.float32(x)), x / (1 + np.exp(-1.702 * x)), rtol=2e-6, atol=1e-7
    )
    # float32's erf: absolute error only, the left tail is a cancellation
    np.testing.assert_allclose(layers.gelu(jnp.float32(x)), x * special.ndtr(x), atol=1e-6)


def test_patch_embed_is_a_strided_convolution():
    module = layers.PatchEmbed(width=5, patch_size=4)
    pixels = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    variables = jax.jit(module.init)(jax.random.key(1), pixels)
    kernel = variables["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(
        pixels, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = jax.jit(module.apply)(variables, pixels)
    np.testing.assert_allclose(got, expected.reshape(2, 6, 5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_matches_loops(is_causal):
    b, t, heads, size = 2, 5, 3, 4
    module = layers.SelfAttention(num_heads=heads, is_causal=is_causal, out_std=0.3)
    x = jax.random.normal(jax.random.key(0), (b, t, heads * size))
    variables = jax.jit(module.init)(jax.random.key(1), x)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)  # biases count too

    def dense(name, rows):
        p = variables["params"][name]
        return rows @ np.float64(p["kernel"]) + np.float64(p["bias"])

    expected = np.zeros((b, t, heads * size))
    for i in range(b):
        query, key, value = (dense(n, np.float64(x[i])) for n in ("query", "key", "value"))
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            for row in range(t):
                seen = row + 1 if is_causal else t
                weights = special.softmax(key[:seen, part] @ query[row, part] / np.sqrt(size))
                expected[i, row, part] = weights @ value[:seen, part]
    np.testing.assert_allclose(
        jax.jit(module.apply)(variables, x), dense("out", expected), rtol=1e-5, atol=1e-5
    )


def test_block_keeps_bfloat16_and_float32_statistics():
    block = layers.Block(num_heads=2, activation="gelu", is_causal=False, out_std=0.1)
    x = 100 + jax.random.normal(jax.random.key(0), (2, 3, 16))
    variables = jax.jit(block.init)(jax.random.key(1), x)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    y = jax.jit(block.apply)(half, x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.float32(y), jax.jit(block.apply)(variables, x.astype(jnp.bfloat16)), rtol=0.02
    )
