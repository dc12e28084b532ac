import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.types import Embeddings
from calib_jax.objectives.dive import (
    AverageVectors,
    PairwiseVectors,
    average_vector_loss,
    pairwise_vector_loss,
)


def embeddings(pairs, dtype=jnp.float32):
    image, text, scale = (jnp.asarray(x, dtype) for x in pairs)
    return Embeddings(image=image, text=text, logit_scale=scale)


def pairwise_by_loop(student, start):
    losses = np.zeros(len(student[0]))
    for i in range(len(losses)):
        for k in range(student[0].shape[1]):
            moved_image = student[0][i, k] - start[0][i, k]
            losses[i] += (moved_image - (student[1][i, k] - start[1][i, k])) ** 2
    return losses


def average_by_loop(student, start):
    moved = [student[tower] - start[tower] for tower in (0, 1)]
    mean = sum(vector for vectors in moved for vector in vectors) / (2 * len(moved[0]))
    return np.array([sum(np.sum((x[i] - mean) ** 2) for x in moved) for i in range(len(moved[0]))])


LOSSES = [(pairwise_vector_loss, pairwise_by_loop), (average_vector_loss, average_by_loop)]


@pytest.mark.parametrize(("loss_of", "by_loop"), LOSSES)
@pytest.mark.parametrize("size", [1, 6])
def test_losses_by_loop_and_by_finite_differences(pairs, loss_of, by_loop, size):
    student, start = pairs(0, size=size), pairs(1, size=size)
    with jax.enable_x64(True):
        held = embeddings(start, jnp.float64)
        loss = loss_of(embeddings(student, jnp.float64), held)
        np.testing.assert_allclose(loss, by_loop(student, start), rtol=1e-12)
        check_grads(
            jax.jit(lambda *x: loss_of(Embeddings(*x, jnp.ones([])), held).sum()),
            tuple(jnp.asarray(x) for x in student[:2]),
            order=1,
            modes=("rev",),
            rtol=1e-6,
        )


@pytest.mark.parametrize("loss_of", [pairwise_vector_loss, average_vector_loss])
def test_pairs_that_move_together_cost_nothing(pairs, loss_of):
    start = pairs(2)
    moved = (start[0] + 0.25, start[1] + 0.25, start[2])
    loss = loss_of(embeddings(moved), embeddings(start))
    np.testing.assert_allclose(loss, np.zeros(6), atol=1e-12)


def test_a_pair_that_moves_alone_costs_the_average_alone(pairs):
    start = pairs(2)
    moved = tuple(x + 0.25 * np.eye(6, 1) for x in start[:2])
    student, start = embeddings((*moved, start[2])), embeddings(start)
    np.testing.assert_allclose(pairwise_vector_loss(student, start), np.zeros(6), atol=1e-12)
    assert np.all(average_vector_loss(student, start) > 0)


@pytest.mark.parametrize("loss_of", [pairwise_vector_loss, average_vector_loss])
@pytest.mark.parametrize("size", [1, 4])
def test_zero_and_equal_vectors_are_finite(size, loss_of):
    zeros = embeddings((np.zeros((size, 3)), np.zeros((size, 3)), 1.0))
    value, gradients = jax.value_and_grad(lambda e: loss_of(e, zeros).sum())(zeros)
    assert float(value) == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("term", "by_loop"), [(PairwiseVectors, pairwise_by_loop), (AverageVectors, average_by_loop)]
)
def test_the_terms_compare_with_the_start(views_of, pairs, term, by_loop):
    student, start = pairs(3), pairs(4)
    views = views_of(6, student=embeddings(student), pretrained=embeddings(start))
    np.testing.assert_allclose(term()(views), by_loop(student, start), rtol=1e-5)
    assert term().weight == 1000.0
    assert term.needs == {"pretrained", "captions"}
