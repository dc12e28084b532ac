import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core import rngs
from calib_jax.core.errors import ConfigError
from calib_jax.objectives.random_text import RandomTextMatching, energy_gap, random_texts
from calib_jax.objectives.views import Start, Views

gap_of = jax.jit(energy_gap)
value_and_gradient = jax.jit(jax.value_and_grad(lambda *x: energy_gap(*x).mean()))


@pytest.fixture
def example(pairs):
    """Unit-norm images of the student and of the start, texts, and the scale; in float64."""
    image, start_image, scale = pairs(0, size=7)
    return image, start_image, pairs(1, size=11)[0], scale


def in_dtype(arrays, dtype=jnp.float32):
    return tuple(jnp.asarray(x, dtype) for x in arrays)


def gap_by_loop(image, start_image, texts, scale):
    losses = np.zeros(len(image))
    for i in range(len(image)):
        for text in texts:
            before, after = scale * float(start_image[i] @ text), scale * float(image[i] @ text)
            losses[i] += (after - before) ** 2 / (2 * len(texts))
    return losses


def test_gap_by_loop(example):
    expected = gap_by_loop(*example)
    assert expected.shape == (7,)
    np.testing.assert_allclose(gap_of(*in_dtype(example)), expected, rtol=1e-5)


def test_in_float64_by_loop_and_by_finite_differences(example):
    with jax.enable_x64(True):
        image, *rest = in_dtype(example, jnp.float64)
        np.testing.assert_allclose(gap_of(image, *rest), gap_by_loop(*example), rtol=1e-12)
        check_grads(lambda x: gap_of(x, *rest).sum(), (image,), order=1, modes=("rev",), rtol=1e-6)


@pytest.mark.parametrize("kind", ["zero vectors", "duplicates", "one", "span"])
def test_degenerate_inputs_are_finite(example, kind):
    image, start_image, texts, scale = example
    if kind == "zero vectors":
        image[0] = start_image[1] = texts[2] = 0.0
    elif kind == "duplicates":
        image[:], texts[:] = start_image[0], texts[0]
    elif kind == "one":
        image, start_image, texts = start_image[:1], start_image[:1], texts[:1]
    else:
        start_image, scale = -image, 400.0
    value, gradient = value_and_gradient(*in_dtype((image, start_image, texts, scale)))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if kind == "one":
        assert float(value) == 0.0


@pytest.mark.parametrize(("bos", "eot"), [(49406, 49407), (1, 9), (0, 9)])
def test_texts_are_uniform_between_bos_and_eot(bos, eot):
    texts = random_texts(
        jax.random.key(0), bos=jnp.int32(bos), eot=jnp.int32(eot), num_texts=500, num_words=8
    )
    assert texts.shape == (500, 10)
    np.testing.assert_array_equal(texts[:, 0], bos)
    np.testing.assert_array_equal(texts[:, -1], eot)
    words = np.asarray(texts[:, 1:-1]).ravel()
    allowed = np.setdiff1d(np.arange(eot), bos)
    assert np.isin(words, allowed).all()
    counts, _ = np.histogram(np.searchsorted(allowed, words), bins=8, range=(0, len(allowed)))
    # Each of 8 bins expects 500 of 4000 words, with a standard deviation of 21.
    np.testing.assert_allclose(counts, 500, atol=100)


@pytest.fixture
def views(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tables, batch_of = tiny_batches
    prompts = tables.class_tokens.at[..., 0].set(1)
    images = jnp.asarray(np.random.default_rng(2).normal(size=(2, 16, 8)), jnp.float32)
    views = Views(
        encoder=encoder,
        classifier=ZeroShot(),
        params={"encoder": params},
        teacher_params=None,
        tables=dataclasses.replace(tables, class_tokens=prompts),
        batch=jax.tree.map(jnp.asarray, batch_of(0)),
        step=jnp.int32(3),
        start=Start({"encoder": jax.tree.map(lambda x: 1.1 * x, params)}),
        seed=5,
    )
    vars(views).update(image_features=images[0], pretrained_image_features=images[1])
    return views


def unit(x):
    return x / np.linalg.norm(np.float64(x), axis=-1, keepdims=True)


def test_the_term_reads_new_texts_with_the_tower_of_the_start(views):
    start = views.start.params["encoder"]
    term = RandomTextMatching(num_texts=3, num_words=4)
    tokens = random_texts(
        rngs.key(5, 3, "random_text"), bos=jnp.int32(1), eot=jnp.int32(31), num_texts=3, num_words=4
    )
    texts = unit(jax.jit(views.encoder.encode_text)(start, tokens))
    images = [unit(x) for x in (views.image_features, views.pretrained_image_features)]
    expected = gap_by_loop(*images, texts, np.exp(float(start["logit_scale"])))

    @jax.jit
    def value_at(step):
        later = dataclasses.replace(views, step=step)
        names = ("image_features", "pretrained_image_features")
        vars(later).update({name: vars(views)[name] for name in names})
        return term(later)

    np.testing.assert_allclose(value_at(jnp.int32(3)), expected, rtol=1e-4)
    assert np.abs(value_at(jnp.int32(4)) - expected).max() > 1e-3


def test_texts_fit_into_the_context(views, monkeypatch):
    lengths = []
    encode = type(views.encoder).encode_text
    monkeypatch.setattr(
        type(views.encoder),
        "encode_text",
        lambda self, params, tokens: lengths.append(tokens.shape) or encode(self, params, tokens),
    )
    shape = jax.eval_shape(lambda step: RandomTextMatching(num_words=99)(views), views.step)
    assert lengths == [(80, 16)]
    assert shape.shape == (16,)


@pytest.mark.parametrize("name", ["num_texts", "num_words"])
def test_numbers_below_one(name):
    with pytest.raises(ConfigError, match=rf"^{name}: got 0, expected at least 1\. "):
        RandomTextMatching(**{name: 0}).validate()
    RandomTextMatching().validate()
    assert RandomTextMatching() == RandomTextMatching(weight=1.0, num_texts=80, num_words=8)
    assert RandomTextMatching.needs == {"pretrained"}
