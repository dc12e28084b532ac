import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.errors import ConfigError
from calib_jax.objectives.context import ContextAwareness, context_divergence

divergence_of = jax.jit(context_divergence)
value_and_gradient = jax.jit(jax.value_and_grad(lambda *x: context_divergence(*x).mean()))


@pytest.fixture
def example(pairs):
    """Unit-norm images of the student and of the start, contexts, and the scale; in float64."""
    image, start_image, scale = pairs(0, size=7)
    return image, start_image, pairs(1, size=4)[0], scale


def in_dtype(arrays, dtype=jnp.float32):
    return tuple(jnp.asarray(x, dtype) for x in arrays)


def divergence_by_loop(image, start_image, contexts, scale):
    losses = np.zeros(len(image))
    for i in range(len(image)):
        logits, target = (
            np.array([scale * float(x[i] @ context) for context in contexts])
            for x in (image, start_image)
        )
        log_p, log_p0 = logits - np.logaddexp.reduce(logits), target - np.logaddexp.reduce(target)
        for k in range(len(contexts)):
            losses[i] += np.exp(log_p0[k]) * (log_p0[k] - log_p[k])
    return losses


def test_divergence_by_loop(example):
    expected = divergence_by_loop(*example)
    assert expected.shape == (7,)
    assert expected.min() > 0
    np.testing.assert_allclose(divergence_of(*in_dtype(example)), expected, rtol=1e-4, atol=1e-6)


def test_in_float64_by_loop_and_by_finite_differences(example):
    with jax.enable_x64(True):
        image, *rest = in_dtype(example, jnp.float64)
        loss = divergence_of(image, *rest)
        np.testing.assert_allclose(loss, divergence_by_loop(*example), rtol=1e-10)
        check_grads(
            lambda x: divergence_of(x, *rest).sum(), (image,), order=1, modes=("rev",), rtol=1e-6
        )


def test_the_start_itself_is_the_minimum(example):
    _, start_image, contexts, scale = in_dtype(example)
    value, gradient = value_and_gradient(start_image, start_image, contexts, scale)
    assert float(value) == 0.0
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["zero vectors", "duplicates", "one", "span"])
def test_degenerate_inputs_are_finite(example, kind):
    image, start_image, contexts, scale = example
    if kind == "zero vectors":
        image[0] = start_image[1] = contexts[2] = 0.0
    elif kind == "duplicates":
        image[:], contexts[:] = image[0], contexts[0]
    elif kind == "one":
        image, start_image, contexts = image[:1], start_image[:1], contexts[:1]
    else:  # the start is sure of the one context, the student of the other: -800 against 0
        contexts = np.stack([image[0], -image[0]])
        image[:], start_image[:], scale = image[0], -image[0], 400.0
    value, gradient = value_and_gradient(*in_dtype((image, start_image, contexts, scale)))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if kind == "span":
        np.testing.assert_allclose(value, 800.0, rtol=1e-6)


def test_the_term_has_the_scale_of_the_start(views_of, example):
    image, start_image, contexts, scale = in_dtype(example)
    views = views_of(
        7,
        image_features=3 * image,
        pretrained_image_features=5 * start_image,
        contexts=contexts,
        params={"encoder": {"logit_scale": jnp.float32(0.0)}},
        start_params={"encoder": {"logit_scale": jnp.log(scale)}},
    )
    expected = divergence_of(image, start_image, contexts, scale)
    np.testing.assert_allclose(ContextAwareness()(views), expected, rtol=1e-4, atol=1e-6)
    assert ContextAwareness.needs == {"pretrained", "contexts"}
    assert ContextAwareness().weight == 1.0


def test_a_single_template_is_no_context(views_of, pairs):
    views = views_of(2, contexts=jnp.asarray(pairs(0, size=1)[0], jnp.float32))
    with pytest.raises(
        ConfigError, match=r"^templates: got 1 .*, expected at least 2: .*Add templ"
    ):
        ContextAwareness()(views)
