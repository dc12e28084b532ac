import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
