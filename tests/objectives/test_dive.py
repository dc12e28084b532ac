import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.types import Embeddings
from calib_jax.objectives.dive import PairwiseVectors, pairwise_vector_loss


def embeddings(pairs, dtype=jnp.float32):
    image, text, scale = (jnp.asarray(x, dtype) for x in pairs)
    return Embeddings(image=image, text=text, logit_scale=scale)


def loss_by_loop(student, start):
    losses = np.zeros(len(student[0]))
    for i in range(len(losses)):
        for k in range(student[0].shape[1]):
            moved_image = student[0][i, k] - start[0][i, k]
            losses[i] += (moved_image - (student[1][i, k] - start[1][i, k])) ** 2
    return losses


def test_loss_by_loop_and_by_finite_differences(pairs):
    student, start = pairs(0), pairs(1)
    with jax.enable_x64(True):
        held = embeddings(start, jnp.float64)
        loss = pairwise_vector_loss(embeddings(student, jnp.float64), held)
        np.testing.assert_allclose(loss, loss_by_loop(student, start), rtol=1e-12)
        check_grads(
            jax.jit(lambda *x: pairwise_vector_loss(Embeddings(*x, jnp.ones([])), held).sum()),
            tuple(jnp.asarray(x) for x in student[:2]),
            order=1,
            modes=("rev",),
            rtol=1e-6,
        )


def test_pairs_that_move_together_cost_nothing(pairs):
    start = pairs(2)
    moved = (start[0] + 0.25, start[1] + 0.25, start[2])
    loss = pairwise_vector_loss(embeddings(moved), embeddings(start))
    np.testing.assert_allclose(loss, np.zeros(6), atol=1e-12)


@pytest.mark.parametrize("size", [1, 4])
def test_zero_and_equal_vectors_are_finite(size):
    zeros = embeddings((np.zeros((size, 3)), np.zeros((size, 3)), 1.0))
    value, gradients = jax.value_and_grad(lambda e: pairwise_vector_loss(e, zeros).sum())(zeros)
    assert float(value) == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_the_term_compares_with_the_start(views_of, pairs):
    student, start = pairs(3), pairs(4)
    views = views_of(6, student=embeddings(student), pretrained=embeddings(start))
    np.testing.assert_allclose(PairwiseVectors()(views), loss_by_loop(student, start), rtol=1e-5)
    assert PairwiseVectors().weight == 1000.0
    assert PairwiseVectors.needs == {"pretrained"}
