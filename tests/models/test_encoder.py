import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.models import presets
from calib_jax.models.config import Compute
from calib_jax.models.encoder import Encoder, check_images


@pytest.fixture(scope="module")
def encoder():
    return Encoder(presets.tiny(vocab_size=40, context_length=12, image_size=16, num_layers=1))


@pytest.fixture(scope="module")
def params(encoder):
    """Random numbers everywhere, so that no bias or scale is neutral."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape), x.dtype), shapes)
    return {**params, "logit_scale": jnp.float32(np.log(7))}


@pytest.fixture(scope="module")
def encode_image(encoder):
    return jax.jit(encoder.encode_image)


@pytest.fixture(scope="module")
def encode_text(encoder):
    return jax.jit(encoder.encode_text)


@pytest.fixture(scope="module")
def images():
    shape = (3, 16, 16, 3)
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, shape), jnp.uint8)


@pytest.fixture(scope="module")
def tokens():
    rows = np.random.default_rng(1).integers(1, 38, (3, 12))
    for i, end in enumerate((4, 7, 5)):
        rows[i, end], rows[i, end + 1 :] = 39, 0
    return jnp.asarray(rows)


def test_init_is_deterministic_and_jittable(encoder):
    init = jax.jit(encoder.init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = [p["image"]["block_0"]["mlp"]["up"]["kernel"] for p in (first, other)]
    assert not np.allclose(*kernels)
    assert {x.dtype for x in jax.tree.leaves(first)} == {jnp.dtype("float32")}


def test_jit_equals_eager(encoder, params, images, tokens, encode_image, encode_text):
    image = encoder.encode_image(params, images)
    text = encoder.encode_text(params, tokens)
    assert image.shape == text.shape == (3, 64)
    np.testing.assert_allclose(encode_image(params, images), image, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(encode_text(params, tokens), text, rtol=1e-5, atol=1e-5)


def test_rows_are_independent(params, images, tokens, encode_image, encode_text):
    for encode, x in ((encode_image, images), (encode_text, tokens)):
        rows = [encode(params, x[i : i + 1])[0] for i in range(3)]
        np.testing.assert_allclose(encode(params, x), np.stack(rows), rtol=1e-5, atol=1e-5)


def test_pixels_are_normalised_inside(encoder, params, images, encode_image):
    """Moving mean and std into the pixels by hand gives the same embedding."""
    plain = dataclasses.replace(encoder.config, pixel_mean=(0.0,) * 3, pixel_std=(1.0,) * 3)
    mean, std = (jnp.array(x) for x in (encoder.config.pixel_mean, encoder.config.pixel_std))
    kernel = params["image"]["patch"]["kernel"]
    scaled = kernel / std[None, None, :, None]
    # conv(kernel, (x - m) / s) = conv(kernel / s, x) - sum(kernel m / s), a constant per patch
    shift = jnp.einsum("ijcd,c->d", scaled, mean)
    image = dict(params["image"])
    image["patch"] = {"kernel": scaled}
    image["position_embedding"] = params["image"]["position_embedding"].at[1:].add(-shift)
    expected = jax.jit(Encoder(plain).encode_image)({**params, "image": image}, images)
    np.testing.assert_allclose(encode_image(params, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [8, 9, 11])
def test_cutting_padding_is_exact(params, tokens, length, encode_text):
    full = encode_text(params, tokens)
    cut = encode_text(params, tokens[:, :length])
    np.testing.assert_allclose(cut, full, rtol=1e-6, atol=1e-6)  # the order of sums may differ


def test_padding_after_the_end_is_ignored(params, tokens, encode_text):
    noisy = jnp.where(jnp.arange(12) > jnp.argmax(tokens, axis=1)[:, None], 17, tokens)
    np.testing.assert_array_equal(encode_text(params, noisy), encode_text(params, tokens))


def test_a_token_beyond_the_vocabulary_gives_nan(params, tokens, encode_text):
    bad = encode_text(params, tokens.at[1, 2].set(40))
    assert np.isnan(bad[1]).all()
    assert np.isfinite(bad[0]).all()


def test_gradients_are_finite_everywhere(encoder, params, images, tokens):
    def loss(params):
        image, text = encoder.encode_image(params, images), encoder.encode_text(params, tokens)
        return jnp.sum(jnp.sin(image) * text) * encoder.logit_scale(params)

    grads = jax.jit(jax.grad(loss))(params)
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(g).all(), name
        # a key's bias shifts all logits of a query alike: its gradient is zero but for rounding
        assert np.any(g != 0) or "['key']['bias']" in name, name


def test_bfloat16_is_close_and_gives_float32(encoder, params, images, tokens, encode_text):
    half = Encoder(encoder.config, Compute(dtype="bfloat16"))
    for got, expected in (
        (jax.jit(half.encode_image)(params, images), encoder.encode_image(params, images)),
        (jax.jit(half.encode_text)(params, tokens), encode_text(params, tokens)),
    ):
        assert got.dtype == jnp.float32
        error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        assert 0 < error < 0.02  # eight bits of mantissa are 0.4 % an operation


@pytest.mark.parametrize("padding", [0, 39])
def test_texts_cut_to_the_longest_equal_those_of_77_tokens(padding):
    """The tower is causal and pools at the end of the text: what is cut has no influence."""
    long = Encoder(
        presets.tiny(vocab_size=40, context_length=77, image_size=8, text_width=16, embed_dim=8)
    )
    rng = np.random.default_rng(4)
    shapes = jax.eval_shape(long.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), shapes)
    rows = rng.integers(1, 38, (4, 77))
    for row, end in zip(rows, (1, 9, 17, 23), strict=True):
        row[end], row[end + 1 :] = 39, padding
    encode = jax.jit(long.encode_text)
    full, cut = (encode(params, jnp.asarray(rows[:, :length])) for length in (77, 24))
    assert np.abs(full).max() > 0.1
    # Sums over 77 or 24 keys are split otherwise. With one query in the last block XLA's dot is a
    # vector by a matrix, split once more than the product of two matrices was: a few roundings.
    np.testing.assert_allclose(cut, full, rtol=0, atol=5e-7 * np.abs(full).max())


def test_cudnn_on_a_cpu_fails_while_tracing(encoder, params, tokens):
    fused = Encoder(encoder.config, Compute(dtype="bfloat16", attention="cudnn"))
    with pytest.raises(ConfigError, match="attention: got 'cudnn' on the platform cpu"):
        jax.eval_shape(fused.encode_text, params, tokens)


def test_rank_promotion_is_never_used(encoder, params, images, tokens):
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(encoder.encode_image, params, images)
        jax.eval_shape(encoder.encode_text, params, tokens)


def test_views_of_the_parameters(encoder, params):
    assert float(encoder.logit_scale(params)) == pytest.approx(7, rel=1e-6)
    assert encoder.image_projection(params) is params["image"]["projection"]["kernel"]
    assert encoder.text_projection(params) is params["text"]["projection"]["kernel"]


def test_equal_configs_share_a_compilation(encoder, params, images):
    traces = []

    def encode(encoder, params, images):
        traces.append(encoder)
        return encoder.encode_image(params, images)

    compiled = jax.jit(encode, static_argnums=0)
    twin = Encoder(dataclasses.replace(encoder.config))
    compiled(encoder, params, images)
    compiled(twin, params, images)
    assert len(traces) == 1
    assert hash(twin) == hash(encoder)
    assert twin == encoder


def test_another_compute_is_another_encoder(encoder):
    other = Encoder(encoder.config, Compute(scan=True))
    assert other != encoder
    assert hash(other) != hash(encoder)


def test_wrong_images_fail_while_tracing(encoder, params, images):
    message = r"images: got shape \(3, 8, 16, 3\), expected \[b, 16, 16, 3\]\. Resize"
    with pytest.raises(DataError, match=message):
        jax.eval_shape(encoder.encode_image, params, images[:, :8])
    with pytest.raises(DataError, match=r"images: got float32, expected uint8 in 0\.\.255\."):
        check_images(jnp.zeros((1, 16, 16, 3)), encoder.config)


def test_tokens_beyond_the_context_fail_while_tracing(encoder, params):
    message = r"tokens: got rows of 13, expected at most context_length = 12\. Cut"
    with pytest.raises(DataError, match=message):
        jax.eval_shape(encoder.encode_text, params, jnp.zeros((2, 13), jnp.int32))


def test_a_wrong_config_fails_at_once(encoder):
    with pytest.raises(ConfigError, match="activation: got 'relu'"):
        Encoder(dataclasses.replace(encoder.config, activation="relu"))
    with pytest.raises(ConfigError, match=r"compute\.remat: got 'some'"):
        Encoder(encoder.config, Compute(remat="some"))
