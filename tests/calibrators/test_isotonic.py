import numpy as np
import pytest
import sklearn.isotonic

from calib_jax.calibrators.isotonic import IsotonicOneVsRest, MultiIsotonic
from calib_jax.core import numerics
from calib_jax.core.errors import DataError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(97, 4)) * 3
LABELS = (LOGITS + 2 * RNG.gumbel(size=LOGITS.shape)).argmax(axis=1)
PROBS = numerics.softmax(LOGITS)
OTHER = RNG.normal(size=(50, 4)) * 6


def pooled_by_loop(values, hits):
    """Pool adjacent violators, at the sorted values (no ties)."""
    blocks = []
    for hit in np.asarray(hits, float)[np.argsort(values)]:
        blocks.append([hit, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    return np.concatenate([[mean] * size for mean, size in blocks])


@pytest.mark.parametrize("labels", [LABELS, np.minimum(LABELS, 2)], ids=["all", "absent class"])
def test_one_vs_rest(labels):
    queries = numerics.softmax(OTHER)
    raw = 1e-9 * queries
    for k in range(4):
        model = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip")
        raw[:, k] += model.fit(PROBS[:, k], labels == k).predict(queries[:, k])
        expected = pooled_by_loop(PROBS[:, k], labels == k)
        np.testing.assert_allclose(model.predict(np.sort(PROBS[:, k])), expected, atol=1e-12)
    fitted = IsotonicOneVsRest().fit(LOGITS, labels)
    np.testing.assert_allclose(fitted.probs(OTHER), raw / raw.sum(1, keepdims=True), rtol=1e-9)


def test_multi_isotonic():
    hits = (LABELS[:, None] == np.arange(4)).ravel()
    fitted = MultiIsotonic().fit(LOGITS, LABELS)
    pooled = pooled_by_loop(PROBS.ravel(), hits)
    np.testing.assert_allclose(
        np.interp(np.sort(PROBS.ravel()), fitted.knots, fitted.values), pooled, atol=1e-12
    )
    queries = numerics.softmax(OTHER)
    raw = np.interp(queries, fitted.knots, fitted.values) + 1e-9 * queries
    np.testing.assert_allclose(fitted.probs(OTHER), raw / raw.sum(1, keepdims=True), rtol=1e-12)


def test_multi_isotonic_is_strictly_increasing():
    order = np.argsort(OTHER, axis=1)
    ranked = np.take_along_axis(MultiIsotonic().fit(LOGITS, LABELS).probs(OTHER), order, axis=1)
    assert (np.diff(ranked, axis=1) > 0).all()


def test_multi_isotonic_is_one_function_for_any_number_of_classes():
    fitted = MultiIsotonic().fit(LOGITS, LABELS)
    np.testing.assert_allclose(fitted.probs(OTHER[:, :2]).sum(axis=1), 1)
    with pytest.raises(DataError, match="got 2 classes, expected 4 as in the fit"):
        IsotonicOneVsRest().fit(LOGITS, LABELS).probs(OTHER[:, :2])


def test_probabilities_closer_than_1e_15_stay_apart():
    logits = np.array([[0.0, -40.0], [0.0, -45.0]] * 3)
    probs = IsotonicOneVsRest().fit(logits, np.array([1, 0] * 3)).probs(logits)
    # The first class has probability 1 in float64 in every example, and frequency 1/2.
    np.testing.assert_allclose(probs, [[1 / 3, 2 / 3], [1, 0]] * 3, atol=1e-8)


@pytest.mark.parametrize("span", [1, 10, 30, 300])
def test_the_fit_is_isotonic_regression_at_any_span(span):
    """At the probabilities that it was fitted on, by pooling; ties are first averaged."""
    rng = np.random.default_rng(span)
    logits = span * rng.normal(size=(200, 3))
    labels = (logits / span + rng.gumbel(size=logits.shape)).argmax(axis=1)
    probs = numerics.softmax(logits)
    fitted = IsotonicOneVsRest().fit(logits, labels)
    for k, (start, stop) in enumerate(zip(fitted.starts, fitted.starts[1:], strict=False)):
        unique, tie, count = np.unique(probs[:, k], return_inverse=True, return_counts=True)
        blocks = []
        for mean, size in zip(np.bincount(tie, labels == k) / count, count, strict=True):
            blocks.append([mean, size, 1])
            while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
                (a, n, i), (b, m, j) = blocks[-2:]
                blocks[-2:] = [[(a * n + b * m) / (n + m), n + m, i + j]]
        expected = np.concatenate([[mean] * number for mean, _, number in blocks])
        found = np.interp(unique, fitted.knots[start:stop], fitted.values[start:stop])
        np.testing.assert_allclose(found, expected, atol=1e-12)
