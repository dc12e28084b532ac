"""Rows of predictions that are one example, and rows that are equal by chance."""

import itertools
import re

import numpy as np
import pytest
import scipy.special
import sklearn.datasets
import sklearn.tree

from calib_jax.core.errors import DataError
from calib_jax.evaluation import overlap
from calib_jax.evaluation.overlap import check_disjoint


def rows_of(num_examples, seed, c=3):
    return np.random.default_rng(seed).normal(size=(num_examples, c)).astype(np.float32)


def shared_row(held_out, reported):
    """The numbers of the pair that is named, or None."""
    try:
        check_disjoint(held_out, {"logits": reported}, name="calibration.logits")
    except DataError as error:
        return tuple(int(number) for number in re.findall(r"\[(\d+)\]", str(error)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_first_shared_row_is_named(dtype):
    first, second = (rows_of(50, seed).astype(dtype) for seed in (1, 2))
    assert shared_row(first, second) is None
    second[[7, 30]] = first[[40, 20]]
    message = r"^calibration.logits: got in row \[20\] what logits has in row \[30\], expected oth"
    with pytest.raises(DataError, match=message):
        check_disjoint(first, {"x": first[:0] + 1, "logits": second}, name="calibration.logits")
    # A copy of another precision is a copy.
    for other in (np.float16, np.float32, np.float64):
        assert shared_row(first, second.astype(other)) == (20, 30)


@pytest.mark.parametrize(("held_times", "times"), [(1, 2), (2, 1), (1, 5), (2, 2), (3, 2)])
def test_concatenation_hides_no_copy(held_times, times):
    copied = rows_of(1000, 0)
    held_out, reported = np.tile(copied, (held_times, 1)), np.tile(copied, (times, 1))
    assert shared_row(held_out, reported) == (0, 0)
    # Nor does it among other examples.
    both = np.concatenate([rows_of(30, 1), held_out]), np.concatenate([rows_of(90, 2), reported])
    assert shared_row(*both) == (30, 90)


def test_predictions_of_certainty_are_no_copies_and_hide_none():
    rng = np.random.default_rng(0)
    certain = [np.eye(10, dtype=np.float32)[rng.integers(10, size=n)] for n in (40, 300, 1)]
    for held_out, reported in itertools.permutations(certain, 2):
        assert shared_row(held_out, reported) is None
    beside = [
        np.concatenate([one, scipy.special.softmax(rows_of(200, i, c=10), axis=1)])
        for i, one in enumerate(certain)
    ]
    assert shared_row(*beside[:2]) is None
    beside[1][310] = beside[0][50]
    assert shared_row(*beside[:2]) == (50, 310)


def probabilities(num_examples, num_classes, scale, seed):
    """Of a model that is right nearly always, the more so the larger the scale."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_examples, num_classes)) * scale / 4
    logits[np.arange(num_examples), rng.integers(num_classes, size=num_examples)] += scale
    return scipy.special.softmax(logits, axis=1)


COARSE = {
    "float16": lambda p: p.astype(np.float16),
    "float32": lambda p: p.astype(np.float32),
    "two decimals": lambda p: p.round(2),
    "four decimals": lambda p: p.round(4) / p.round(4).sum(axis=1, keepdims=True),
    "logits with two decimals": lambda p: np.log(np.maximum(p, 1e-30)).round(2),
}


@pytest.mark.parametrize("scale", [4, 20])
@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("kind", COARSE)
def test_coarse_rows_that_are_equal_by_chance_are_no_copies(kind, num_classes, scale):
    reported = COARSE[kind](probabilities(6000, num_classes, scale, 0))
    held_out = COARSE[kind](probabilities(3000, num_classes, scale, 1))
    assert shared_row(held_out, reported) is None
    copied = np.concatenate([held_out[:2000], reported[-1000:]])
    if len(np.unique(held_out, axis=0)) > 300:  # of fewer different rows nobody can tell
        assert shared_row(copied, reported) is not None


def test_leaves_of_a_tree_are_no_copies():
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    tree = sklearn.tree.DecisionTreeClassifier(max_depth=5, random_state=0)
    probs = tree.fit(images[:900], labels[:900]).predict_proba(images[900:])
    assert shared_row(probs[:450], probs[450:]) is None


def test_copies_behind_rows_that_are_equal_by_chance():
    """Rounded rows of which many are the same, and one copy at the end."""
    kinds = np.array([[0.999999, 0.000001, 0.0, 0.0], [0.999998, 0.000001, 0.000001, 0.0]])
    rng = np.random.default_rng(0)
    held_out, reported = (
        np.concatenate([kinds[rng.integers(2, size=300)], scipy.special.softmax(rows, axis=1)])
        for rows in (rng.normal(size=(200, 4)), rng.normal(size=(250, 4)))
    )
    assert shared_row(held_out, reported) is None
    held_out[-1] = reported[-1]
    assert shared_row(held_out, reported) == (499, 549)


def test_the_excess_of_every_deal_by_hand():
    """All ways to deal rows 0, 0, 1, 1, 1, 2 to two samples: mean 0, spread near 1."""
    rows = np.array([0, 0, 1, 1, 1, 2], np.uint64)
    deals = [np.isin(range(6), chosen) for chosen in itertools.combinations(range(6), 3)]
    values = [overlap._excess(rows[deal], rows[~deal]) for deal in deals]
    agreement = [
        sum((rows[d] == k).sum() * (rows[~d] == k).sum() / (rows == k).sum() for k in range(3))
        for d in deals
    ]
    assert np.corrcoef(values, agreement)[0, 1] == pytest.approx(1.0)
    # Dealt as by a fair coin each: 1 / 4 for the pair, 1 / 2 for the three.
    expected = (2 - 1) / 4 + (3 - 1) / 4
    spread = np.sqrt(1 / 16 + 1 / 12)
    assert values[0] == pytest.approx((agreement[0] - expected) / spread)


@pytest.mark.parametrize("kind", COARSE)
def test_a_copy_among_few_rows_of_two_classes(kind):
    """In full precision chance would not make it; in fewer digits it does."""
    reported, held_out = (COARSE[kind](probabilities(300, 2, 4, seed)) for seed in (0, 1))
    assert shared_row(held_out, reported) is None
    held_out[7] = reported[9]
    assert shared_row(held_out, reported) == ((7, 9) if kind == "float32" else None)


def test_two_classes_need_more_than_a_few_equal_rows():
    """A probability of two classes is one number: float32 repeats itself."""
    reported = probabilities(500, 2, 4, 0).astype(np.float32)
    held_out = probabilities(300, 2, 4, 1).astype(np.float32)
    held_out[:3] = reported[:3]
    assert shared_row(held_out, reported) is None
    held_out[:40] = reported[40:80]
    assert shared_row(held_out, reported) == (0, 40)
