import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.errors import ConfigError
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.cross_entropy import CrossEntropy, cross_entropy


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    return rng.normal(0, 5, (31, 7)), rng.integers(0, 7, 31)


def test_loss_by_loop(example):
    logits, labels = example
    expected = [
        np.logaddexp.reduce(row) - row[label] for row, label in zip(logits, labels, strict=True)
    ]
    loss = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_softmax_minus_one_hot(example):
    logits, labels = example
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray(labels)).sum())(
        jnp.asarray(logits, jnp.float32)
    )
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exp / exp.sum(axis=1, keepdims=True) - np.eye(7)[labels]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_a_wide_span_and_half_precision_are_finite():
    logits = jnp.asarray([[0.0, 300.0], [-300.0, 300.0]])
    loss, gradient = jax.value_and_grad(lambda x: cross_entropy(x, jnp.array([0, 0])).sum())(logits)
    assert float(loss) == 900.0
    np.testing.assert_array_equal(gradient, [[-1, 1], [-1, 1]])
    half = cross_entropy(logits.astype(jnp.bfloat16), jnp.array([0, 0]))
    assert half.dtype == jnp.float32


def test_the_term_reads_logits_and_labels(views_of, example):
    logits, labels = jnp.asarray(example[0], jnp.float32), example[1]
    value = CrossEntropy()(views_of(31, labels=labels, logits=logits))
    np.testing.assert_array_equal(value, cross_entropy(logits, jnp.asarray(labels)))


def smoothed_by_loop(logits, labels, smoothing):
    losses = np.zeros(len(logits))
    for i, row in enumerate(logits):
        for k in range(len(row)):
            target = (1 - smoothing) * (k == labels[i]) + smoothing / len(row)
            losses[i] -= target * (row[k] - np.logaddexp.reduce(row))
    return losses


def test_label_smoothing_by_loop_and_by_finite_differences(example):
    logits, labels = example
    with jax.enable_x64(True):
        loss_of = jax.jit(lambda x: cross_entropy(x, jnp.asarray(labels), label_smoothing=0.1))
        expected = smoothed_by_loop(logits, labels, 0.1)
        np.testing.assert_allclose(loss_of(jnp.asarray(logits)), expected, rtol=1e-12)
        check_grads(
            lambda x: loss_of(x).sum(), (jnp.asarray(logits),), order=1, modes=("rev",), rtol=1e-6
        )


def test_label_smoothing_with_wide_spans_and_single_classes():
    labels = jnp.array([0])
    loss = cross_entropy(jnp.asarray([[0.0, 300.0]]), labels, label_smoothing=0.5)
    np.testing.assert_allclose(loss, [0.75 * 300], rtol=1e-6)
    np.testing.assert_array_equal(cross_entropy(jnp.ones((1, 1)), labels, label_smoothing=0.5), [0])


def test_the_term_smooths(views_of, example):
    logits, labels = jnp.asarray(example[0], jnp.float32), example[1]
    value = CrossEntropy(label_smoothing=0.1)(views_of(31, labels=labels, logits=logits))
    np.testing.assert_allclose(value, smoothed_by_loop(*example, 0.1), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("term", [CrossEntropy, Contrastive])
def test_label_smoothing_out_of_range(term, smoothing):
    message = rf"^label_smoothing: got {smoothing}, expected a number in \[0, 1\)\. Correct it"
    with pytest.raises(ConfigError, match=message):
        term(label_smoothing=smoothing).validate()
    term(label_smoothing=0.1).validate()
