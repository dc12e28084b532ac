"""Batches are trees of arrays; similarities against a loop."""

import jax
import jaxtyping
import numpy as np
import pytest

from calib_jax.core.linalg import normalize
from calib_jax.core.numerics import softmax
from calib_jax.core.types import Batch, Predictions


def test_a_batch_is_a_tree_of_its_four_arrays():
    batch = Batch(
        image=np.zeros((2, 4, 4, 3), np.uint8),
        label=np.arange(2, dtype=np.int32),
        caption=np.arange(2, dtype=np.int32),
        mask=np.ones(2, bool),
    )
    assert batch.taps is None and batch.features is None
    first = jax.tree.map(lambda leaf: leaf[:1], batch)
    assert isinstance(first, Batch)
    assert [leaf.shape for leaf in jax.tree.leaves(first)] == [(1, 4, 4, 3), (1,), (1,), (1,)]


def test_a_batch_of_features_has_empty_images():
    batch = Batch(
        image=np.zeros((2, 0, 0, 3), np.uint8),
        label=np.arange(2, dtype=np.int32),
        caption=np.zeros(2, np.int32),
        mask=np.ones(2, bool),
        features=np.ones((2, 5), np.float32),
    )
    assert [leaf.size for leaf in jax.tree.leaves(batch)] == [0, 2, 2, 2, 10]


def test_similarities_are_cosines_and_zero_for_a_zero_feature():
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    features[2] = 0.0
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    predictions = Predictions(
        logits=np.zeros((5, 3)),
        labels=np.zeros(5, np.int32),
        features=features,
        class_embeddings=classes,
    )
    expected = np.zeros((5, 3))
    for i in (0, 1, 3, 4):
        for c in range(3):
            expected[i, c] = sum(features[i] * classes[c]) / np.sqrt(sum(features[i] ** 2))
    np.testing.assert_allclose(predictions.similarities(), expected, rtol=1e-12, atol=1e-15)


def test_shapes_and_types_are_checked_while_testing():
    """By the import hook of `conftest.py`."""
    with pytest.raises(jaxtyping.TypeCheckError, match=r"parameters of .*softmax"):
        softmax(np.ones(3))
    with pytest.raises(jaxtyping.TypeCheckError, match=r"parameters of .*normalize"):
        normalize(np.ones((2, 3)))
