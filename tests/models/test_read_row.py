"""The last block computes the row that is read alone: the same numbers for fewer operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.models import layers, presets
from calib_jax.models.config import Compute
from calib_jax.models.encoder import Encoder

END = 29  # the largest token id
CHECKSUM = 121735.38085963867  # of `test_parameters_start_as_they_do_where_all_rows_are_computed`


def make_config(*, num_layers=3, activation="quick_gelu"):
    config = presets.tiny(
        vocab_size=END + 1,
        context_length=9,
        image_size=16,
        width=16,
        num_layers=num_layers,
        text_width=24,
        text_layers=num_layers,
        embed_dim=8,
    )
    config.activation = activation
    config.vision.num_heads, config.text.num_heads = 2, 3
    return config


def make_params(config):
    """Random numbers everywhere, so that no bias or scale is neutral."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3)), jnp.uint8)


@pytest.fixture(scope="module")
def tokens():
    """Texts of 1 to 9 tokens; zeros, other tokens or a second end follow."""
    rows = np.random.default_rng(2).integers(1, END, (6, 9))
    for row, end in zip(rows, (0, 1, 3, 5, 7, 8), strict=True):
        row[end] = END
    rows[2, 4:], rows[3, 7] = 0, END
    return jnp.asarray(rows, jnp.int32)


def norm(x, params):
    centred = x - x.mean(-1, keepdims=True)
    std = jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / std * params["scale"] + params["bias"]


def every_row(x, params, size, activation, *, is_causal):
    """What all blocks make of all rows, written without the modules."""
    b, t, width = x.shape

    def dense(x, name, block):
        for part in name.split("/"):
            block = block[part]
        return x @ block["kernel"] + block["bias"]

    for i in range(size.num_layers):
        block = params[f"block_{i}"]
        y = norm(x, block["norm_1"])
        query, key, value = (
            dense(y, f"attention/{name}", block).reshape(b, t, size.num_heads, -1)
            for name in ("query", "key", "value")
        )
        logits = jnp.einsum("bqnh,bknh->bnqk", query, key) / np.sqrt(width / size.num_heads)
        if is_causal:
            logits = jnp.where(jnp.tril(jnp.ones((t, t), bool)), logits, -jnp.inf)
        y = jnp.einsum("bnqk,bknh->bqnh", jax.nn.softmax(logits), value).reshape(x.shape)
        x = x + dense(y, "attention/out", block)
        y = layers.ACTIVATIONS[activation](dense(norm(x, block["norm_2"]), "mlp/up", block))
        x = x + dense(y, "mlp/down", block)
    return x


def full_computation(config, params, images, tokens):
    """Both embeddings: every row of every block, and the row that is read of what comes out."""
    mean, std = (np.array(x, np.float32) for x in (config.pixel_mean, config.pixel_std))
    p, size = params["image"], config.vision.patch_size
    b, side, _, _ = images.shape
    pixels = ((images.astype(jnp.float32) / 255 - mean) / std).reshape(
        b, side // size, size, side // size, size, 3
    )
    patches = jnp.einsum("bhiwjc,ijcd->bhwd", pixels, p["patch"]["kernel"]).reshape(b, -1, 16)
    first = jnp.broadcast_to(p["class_embedding"], (b, 1, 16))
    x = jnp.concatenate([first, patches], axis=1) + p["position_embedding"]
    x = norm(x, p["norm_pre"])
    x = every_row(x, p, config.vision, config.activation, is_causal=False)[:, 0]
    image = norm(x, p["norm_post"]) @ p["projection"]["kernel"]

    p = params["text"]
    x = p["token_embedding"][tokens] + p["position_embedding"][: tokens.shape[1]]
    x = every_row(x, p, config.text, config.activation, is_causal=True)
    x = x[jnp.arange(b), jnp.argmax(tokens, axis=1)]
    return image, norm(x, p["norm_final"]) @ p["projection"]["kernel"]


def gradients(encode, params):
    """((image, text) embeddings, gradients of a sum over them in all parameters)."""

    def loss(params):
        image, text = encode(params)
        return jnp.sum(jnp.sin(image)) + jnp.sum(jnp.cos(text)), (image, text)

    (_, embeddings), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return embeddings, grads


def towers(config, images, tokens, **fields):
    encoder = Encoder(config, Compute(dtype="float32", **fields))
    return lambda p: (encoder.encode_image(p, images), encoder.encode_text(p, tokens))


def assert_equal(got, expected):
    """Equal to 1e-6 of the largest entry, of the embeddings and of the gradients of each tower."""
    for a, b in zip(got[0], expected[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())
    for tower in ("image", "text"):
        a, b = got[1][tower], expected[1][tower]
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(b))
        assert largest > 1  # no comparison of zeros
        jax.tree.map(
            lambda x, y, atol: np.testing.assert_allclose(x, y, rtol=0, atol=atol),
            a,
            b,
            jax.tree.map(lambda _, atol=1e-6 * largest: atol, b),
        )


@pytest.fixture(scope="module")
def expected(images, tokens):
    """The full computation of three layers with quick GELU, computed once."""
    config = make_config()
    return gradients(lambda p: full_computation(config, p, images, tokens), make_params(config))


@pytest.mark.parametrize(
    ("scan", "remat"),
    # Each costs a compilation; `test_layers.py` holds all six to one another.
    [(False, "none"), (False, "dots"), (True, "none"), (True, "full")],
)
def test_values_and_gradients_are_those_of_all_rows(images, tokens, expected, scan, remat):
    config = make_config()
    encode = towers(config, images, tokens, scan=scan, remat=remat)
    assert_equal(gradients(encode, make_params(config)), expected)


@pytest.mark.parametrize(("num_layers", "length"), [(1, 9), (2, 6)])
def test_so_they_are_with_gelu_at_other_depths_and_lengths(images, tokens, num_layers, length):
    """One layer leaves none to scan; of six tokens two texts have no end."""
    config = make_config(num_layers=num_layers, activation="gelu")
    params, tokens = make_params(config), tokens[:, :length]
    assert_equal(
        gradients(towers(config, images, tokens, scan=True), params),
        gradients(lambda p: full_computation(config, p, images, tokens), params),
    )


def test_in_bfloat16_the_row_has_the_dtype_of_all_rows():
    block = layers.Block(num_heads=2, mlp_width=24, activation="gelu", is_causal=True, out_std=0.1)
    x = jax.random.normal(jax.random.key(0), (3, 5, 16)).astype(jnp.bfloat16)
    read = jnp.array([0, 2, 4])
    variables = jax.jit(block.init)(jax.random.key(1), x)
    row, rows = jax.jit(block.apply)(variables, x, read), jax.jit(block.apply)(variables, x)
    assert row.dtype == rows.dtype == jnp.bfloat16
    assert row.shape == (3, 1, 16)
    expected = np.float32(rows)[np.arange(3), np.asarray(read)]
    # One rounding of eight bits.
    np.testing.assert_allclose(np.float32(row[:, 0]), expected, rtol=2**-7, atol=2**-7)


@pytest.fixture
def read_last(monkeypatch):
    """Has the towers compute all rows in every block; `read` is taken of what comes out."""
    transformer = layers.transformer

    def all_rows(x, tower, block, *, read, **fields):
        out = transformer(x, tower, block, **fields)
        assert out.shape == x.shape
        return layers.take_row(out, read)

    return lambda: monkeypatch.setattr(layers, "transformer", all_rows)


def test_parameters_start_as_they_do_where_all_rows_are_computed(read_last):
    config = make_config(num_layers=2)
    init = lambda: jax.jit(Encoder(config).init)(jax.random.key(3))  # noqa: E731
    params = init()
    read_last()
    jax.tree.map(np.testing.assert_array_equal, params, init())
    # What this library drew before the last block computed one row.
    leaves = [np.float64(leaf) for leaf in jax.tree.leaves(params)]
    total = sum(i * np.abs(leaf).sum() for i, leaf in enumerate(leaves))
    np.testing.assert_allclose(total, CHECKSUM, rtol=1e-6)


@pytest.mark.parametrize("scan", [False, True])
def test_all_rows_are_there_for_who_asks(images, tokens, expected, read_last, scan):
    config = make_config()
    read_last()
    got = jax.jit(towers(config, images, tokens, scan=scan))(make_params(config))
    for a, b in zip(got, expected[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


def matmul_flops(size, t, *, reads_one_row):
    """Twice the multiplications of a tower's blocks on one example of t rows.

    A block of width w and hidden width m: key and value 4 t w^2; query and output 4 q w^2; the
    MLP 4 q w m; attention 4 q t w. Of t rows q = t are computed, in the last block one.
    """
    w, m, total = size.width, size.mlp_width, 0
    for i in range(size.num_layers):
        q = 1 if reads_one_row and i == size.num_layers - 1 else t
        total += 4 * t * w**2 + 4 * q * w**2 + 4 * q * w * m + 4 * q * t * w
    return total


@pytest.mark.parametrize("tower", ["image", "text"])
def test_operations_fall_by_the_share_of_the_last_block(read_last, tower):
    """By XLA's count: the same on every machine. Three layers of ViT-like proportions."""
    config = presets.tiny(
        vocab_size=8, context_length=16, num_layers=3, text_layers=3, text_width=64
    )
    params = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.uint8)
    tokens = jax.ShapeDtypeStruct((4, 16), jnp.int32)

    def count():
        encoder = Encoder(config)
        encode, x = {
            "image": (encoder.encode_image, images),
            "text": (encoder.encode_text, tokens),
        }[tower]
        grad = jax.grad(lambda p, x: jnp.sum(jnp.sin(encode(p, x))))
        forward, both = (jax.jit(function).lower(params, x) for function in (encode, grad))
        # Compiling the gradient takes ten times as long, and removes nothing that counts.
        return [forward.compile().cost_analysis()["flops"], both.cost_analysis()["flops"]]

    size, t = {"image": (config.vision, 17), "text": (config.text, 16)}[tower]
    new, old = (matmul_flops(size, t, reads_one_row=one) for one in (True, False))
    share = new / old
    assert 0.7 < share < 0.75
    counted_new = count()
    read_last()
    for a, b in zip(counted_new, count(), strict=True):
        # The patches, the projection, norms and activations are the rest of the count.
        assert a / b == pytest.approx(share, abs=0.015)
