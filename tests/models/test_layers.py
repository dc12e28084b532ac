import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from calib_jax.models import layers, presets
from calib_jax.models.config import Compute
from calib_jax.models.encoder import Encoder


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
    block = layers.Block(num_heads=2, mlp_width=24, activation="gelu", is_causal=False, out_std=0.1)
    x = 100 + jax.random.normal(jax.random.key(0), (2, 3, 16))
    variables = jax.jit(block.init)(jax.random.key(1), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    apply = jax.jit(block.apply)
    half = apply(variables, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    rounded = x.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(np.float32(half), apply(variables, rounded), rtol=0.02)


def operations(jaxpr):
    """Every equation, those of inner functions too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from operations(inner)


def test_only_norms_and_softmax_leave_bfloat16():
    block = layers.Block(
        num_heads=2, mlp_width=24, activation="quick_gelu", is_causal=True, out_std=0.1
    )
    x = jnp.zeros((2, 3, 16), jnp.bfloat16)
    variables = jax.eval_shape(block.init, jax.random.key(0), x)
    seen = {}
    for operation in operations(jax.make_jaxpr(block.apply)(variables, x).jaxpr):
        name, dtypes = operation.primitive.name, {str(v.aval.dtype) for v in operation.invars}
        seen.setdefault(name, []).append(dtypes)
    assert seen["dot_general"] == [{"bfloat16"}] * 8  # three in, two of attention, out, up, down
    assert seen["exp"] == [{"float32"}]  # the softmax
    assert seen["rsqrt"] == [{"float32"}] * 2  # the layer norms


@pytest.fixture(scope="module")
def towers():
    """(A function of `Compute` fields: loss and gradients of a text tower; its parameters)."""
    config = presets.tiny(
        vocab_size=12, context_length=6, image_size=8, text_width=16, text_layers=3, embed_dim=4
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))["text"]
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), shapes)
    tokens = jnp.asarray(rng.integers(0, 12, (3, 6)))

    def gradients(**fields):
        encoder = Encoder(config, Compute(**fields))
        return jax.value_and_grad(
            lambda params: jnp.sum(jnp.sin(encoder.encode_text({"text": params}, tokens)))
        )

    return gradients, params


@pytest.fixture(scope="module")
def unrolled(towers):
    gradients, params = towers
    return jax.jit(gradients(dtype="float32"))(params)


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(False, "dots"), (False, "full"), (True, "none"), (True, "dots"), (True, "full")],
)
def test_scan_and_remat_change_nothing_but_the_order_of_sums(towers, unrolled, scan, remat):
    gradients, params = towers
    value, gradient = jax.jit(gradients(dtype="float32", scan=scan, remat=remat))(params)
    np.testing.assert_allclose(value, unrolled[0], rtol=1e-6)
    largest = max(np.abs(g).max() for g in jax.tree.leaves(gradient))
    jax.tree.map(
        # A few float32 roundings of the largest gradient.
        lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-6 * largest),
        gradient,
        unrolled[1],
    )


def test_remat_recomputes_what_its_policy_says(towers):
    """Three blocks of 8 products; `dots` redoes the two of attention, `full` all."""
    gradients, params = towers

    def count(**fields):
        jaxpr = jax.make_jaxpr(gradients(**fields))(params).jaxpr
        return sum(x.primitive.name == "dot_general" for x in operations(jaxpr))

    plain = count()
    assert plain == 3 * (3 * 8) + 3  # forward and two backward; the projection
    assert 0 < count(remat="dots") - plain <= 3 * 2
    assert 3 * 6 <= count(remat="full") - plain <= 3 * 8
    assert count(scan=True) == 2 * (3 * 8) + 3  # the body of the scan, and the last block


def test_dots_keeps_convolutions():
    kernel = jnp.ones((3, 3, 2, 2))

    def convolve(x):
        dims = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)
        return jnp.sum(jnp.sin(y))

    def count(remat):
        function = jax.grad(layers.rematerialize(convolve, remat))
        jaxpr = jax.make_jaxpr(function)(jnp.ones((1, 4, 4, 2))).jaxpr
        return sum(x.primitive.name == "conv_general_dilated" for x in operations(jaxpr))

    assert [count(remat) for remat in ("none", "dots", "full")] == [2, 2, 3]


@pytest.mark.parametrize(
    ("kind", "capability", "expected"),
    [
        ("cpu", None, "cpu"),
        ("tpu", None, "tpu"),
        ("gpu", "8.0", "cuda"),
        ("gpu", "12.0", "cuda"),
        ("gpu", "7.5", "gpu"),
        ("gpu", "gfx90a", "gpu"),
    ],
)
def test_platforms(kind, capability, expected):
    fields = {} if capability is None else {"compute_capability": capability}
    assert layers.platform(types.SimpleNamespace(platform=kind, **fields)) == expected
    assert layers.platform() == "cpu"


@pytest.mark.parametrize(("platform", "expected"), [("cuda", "cudnn"), ("cpu", "xla")])
def test_the_towers_ask_for_the_kernel_of_the_platform(monkeypatch, platform, expected):
    asked = []

    def attend(query, key, value, *, implementation, is_causal=False, mask=None):
        asked.append((implementation, str(query.dtype)))
        return query

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    monkeypatch.setattr(layers, "platform", lambda: platform)
    encoder = Encoder(presets.tiny(vocab_size=9, context_length=4, num_layers=2, text_layers=2))
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    asked.clear()
    jax.eval_shape(encoder.encode_image, params, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8))
    jax.eval_shape(encoder.encode_text, params, jax.ShapeDtypeStruct((1, 4), jnp.int32))
    dtype = "bfloat16" if platform == "cuda" else "float32"
    # The last block has one query an example: XLA's kernel does.
    assert asked == [(expected, dtype), ("xla", dtype)] * 2


def test_blocks_that_are_alike_are_traced_once(monkeypatch):
    """Of five blocks one, and the last, which computes one row."""
    config = presets.tiny(vocab_size=8, context_length=4, image_size=16, width=64, num_layers=5)
    encoder, traced = Encoder(config), []
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    apply = layers._apply
    monkeypatch.setattr(
        layers, "_apply", lambda block, *rest: traced.append(1) or apply(block, *rest)
    )
    layers._traced_once.cache_clear()
    jax.eval_shape(encoder.encode_image, params, jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.uint8))
    assert len(traced) == 2
    layers._traced_once.cache_clear()
