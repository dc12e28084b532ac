"""Restricted logits against a loop over classes, and labels of examples with several answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.evaluation.restrict import relabel, restrict, restrict_traced

RNG = np.random.default_rng(0)


def restricted_by_loop(logits, groups):
    columns = [logits[:, groups == j].max(axis=1) for j in range(groups.max() + 1)]
    return np.stack(columns, axis=1)


def test_the_maximum_of_every_group():
    logits = RNG.normal(size=(57, 11)).astype(np.float32)
    groups = np.array([2, -1, 0, 1, 2, -1, 3, 0, 2, -1, 4])
    restricted = restrict(logits, groups)
    assert restricted.dtype == np.float32
    np.testing.assert_array_equal(restricted, restricted_by_loop(logits, groups))


def test_the_traced_one_is_the_same_and_the_largest_of_a_group_gets_its_gradient():
    logits = RNG.normal(size=(5, 11)).astype(np.float32)
    groups = np.array([2, -1, 0, 1, 2, -1, 3, 0, 2, -1, 4])
    weights = RNG.normal(size=(5, 5)).astype(np.float32)
    values, pull = jax.vjp(lambda x: restrict_traced(x, groups), jnp.asarray(logits))
    np.testing.assert_array_equal(values, restrict(logits, groups))
    is_largest = np.take_along_axis(restrict(logits, groups), np.maximum(groups, 0)[None], 1)
    expected = np.where((logits == is_largest) & (groups >= 0), weights[:, groups], 0)
    np.testing.assert_allclose(pull(jnp.asarray(weights))[0], expected)


def test_a_subset_is_a_choice_of_columns_and_a_permutation_reorders_them():
    logits = RNG.normal(size=(8, 6))
    np.testing.assert_array_equal(
        restrict(logits, np.array([-1, 0, -1, -1, 1, 2])), logits[:, [1, 4, 5]]
    )
    order = RNG.permutation(6)
    np.testing.assert_array_equal(restrict(logits, np.argsort(order)), logits[:, order])
    np.testing.assert_array_equal(restrict(logits, np.arange(6)), logits)


def test_one_group_and_no_examples():
    logits = RNG.normal(size=(4, 3))
    np.testing.assert_array_equal(
        restrict(logits, np.zeros(3, np.int64)), logits.max(axis=1, keepdims=True)
    )
    assert restrict(logits[:0], np.array([0, -1, 1])).shape == (0, 2)


@pytest.mark.parametrize(
    "groups", [[-1, -1, -1], [0, 2, -1], [1, 1, -1], [0, -2, 1], [*range(7), 9]]
)
def test_groups_with_a_gap(groups):
    message = r"^groups: got the classes \[.*\], expected 0 to k - 1, each .* for the rest\. Take"
    with pytest.raises(ConfigError, match=message):
        restrict(np.zeros((2, len(groups))), np.array(groups))


def test_the_prediction_is_the_label_where_it_is_an_answer():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.0, 9.0]])
    answers = np.array([[True, True, False], [False, True, True], [False, False, True]])
    labels = np.array([0, 1, 2], np.int32)
    found = relabel(logits, labels, answers)
    assert found.dtype == np.int32
    assert found.tolist() == [1, 1, 2]
    hits = (logits.argmax(axis=1) == found).mean()
    assert hits == np.mean([row[p] for row, p in zip(answers, logits.argmax(axis=1), strict=True)])
