import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from calib_jax.core import errors
from calib_jax.metrics import selective

RNG = np.random.default_rng(0)
CORRECT = RNG.random(257) < 0.7
SCORES = RNG.normal(size=257) + CORRECT
TIED = SCORES.round(1)


def curve_by_loop(scores, correct):
    """(kept, wrong) at every distinct score, descending."""
    points = []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = [i for i, score in enumerate(scores) if score >= threshold]
        points.append((len(kept), sum(not correct[i] for i in kept)))
    return points


def aurc_by_loop(scores, correct):
    risks = [np.mean(~correct[scores >= threshold]) for threshold in scores]
    return np.mean(risks)


def augrc_by_loop(scores, correct):
    points = [(0, 0), *curve_by_loop(scores, correct)]
    n = len(scores)
    return sum(
        (kept - before) / n * (wrong + wrong_before) / (2 * n)
        for (before, wrong_before), (kept, wrong) in zip(points, points[1:], strict=False)
    )


@pytest.mark.parametrize("scores", [SCORES, TIED, np.ones(257), SCORES.astype(np.float32)])
def test_by_loop(scores):
    curve = selective.risk_coverage(scores, CORRECT)
    expected = curve_by_loop(scores, CORRECT)
    assert list(zip(curve.num_kept, curve.num_wrong, strict=True)) == expected
    np.testing.assert_array_equal(curve.threshold, np.unique(scores)[::-1])
    np.testing.assert_allclose(curve.coverage, [kept / 257 for kept, _ in expected])
    np.testing.assert_allclose(curve.risk, [wrong / kept for kept, wrong in expected])
    np.testing.assert_allclose(selective.aurc(curve), aurc_by_loop(scores, CORRECT), rtol=1e-12)
    np.testing.assert_allclose(selective.augrc(curve), augrc_by_loop(scores, CORRECT), rtol=1e-12)


@pytest.mark.parametrize("scores", [SCORES, TIED])
def test_augrc_is_a_function_of_auroc_and_accuracy(scores):
    auroc, accuracy = sklearn_metrics.roc_auc_score(CORRECT, scores), CORRECT.mean()
    expected = (1 - auroc) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    value = selective.augrc(selective.risk_coverage(scores, CORRECT))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_excess_is_the_distance_to_the_best_order():
    best = selective.risk_coverage(np.sort(SCORES), np.sort(CORRECT))
    assert selective.excess_aurc(best) == pytest.approx(0, abs=1e-12)
    curve = selective.risk_coverage(SCORES, CORRECT)
    difference = selective.aurc(curve) - selective.aurc(best)
    assert selective.excess_aurc(curve) == pytest.approx(difference, abs=1e-12)
    risk = 1 - CORRECT.mean()
    approximation = risk + (1 - risk) * np.log(1 - risk)
    assert selective.aurc(best) == pytest.approx(approximation, abs=2e-3)


@pytest.mark.parametrize("coverage", [0.0, 0.2, 0.8, 1.0])
def test_risk_at_coverage_by_loop(coverage):
    points = curve_by_loop(TIED, CORRECT)
    expected = next(wrong / kept for kept, wrong in points if kept / 257 >= coverage)
    curve = selective.risk_coverage(TIED, CORRECT)
    assert selective.risk_at_coverage(curve, coverage=coverage) == expected


@pytest.mark.parametrize("risk", [0.0, 0.1, 0.2, 1.0])
def test_coverage_at_risk_by_loop(risk):
    points = curve_by_loop(TIED, CORRECT)
    expected = max([kept / 257 for kept, wrong in points if wrong / kept <= risk], default=0)
    curve = selective.risk_coverage(TIED, CORRECT)
    assert selective.coverage_at_risk(curve, risk=risk) == expected


@pytest.mark.parametrize("n", [1, 6])
def test_all_correct_and_all_wrong(n):
    scores = np.linspace(0, 1, n)
    right = selective.risk_coverage(scores, np.ones(n, bool))
    wrong = selective.risk_coverage(scores, np.zeros(n, bool))
    assert selective.aurc(right) == selective.augrc(right) == 0
    assert selective.aurc(wrong) == 1
    assert selective.augrc(wrong) == 0.5
    assert selective.excess_aurc(right) == 0
    assert selective.excess_aurc(wrong) == pytest.approx(0, abs=1e-12)
    assert selective.coverage_at_risk(right, risk=0.0) == 1
    assert selective.coverage_at_risk(wrong, risk=0.5) == 0
    assert selective.risk_at_coverage(wrong, coverage=0.5) == 1


@hypothesis.settings(deadline=None, max_examples=30, derandomize=True)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_properties(seed, n):
    rng = np.random.default_rng(seed)
    scores, correct = rng.integers(0, 6, n) / 8, rng.random(n) < 0.6
    curve = selective.risk_coverage(scores, correct)
    order = rng.permutation(n)
    # Only the order of the scores counts.
    again = selective.risk_coverage(np.exp(3 * scores[order]), correct[order])
    for number in (selective.aurc, selective.augrc, selective.excess_aurc):
        assert number(again) == number(curve)
    assert -1e-12 <= selective.excess_aurc(curve) <= selective.aurc(curve) <= 1
    assert 0 <= selective.augrc(curve) <= 0.5
    assert selective.risk_at_coverage(curve, coverage=1.0) == pytest.approx(1 - correct.mean())


def test_bad_input(monkeypatch):
    with pytest.raises(errors.DataError, match="scores: got 0 examples"):
        selective.risk_coverage(SCORES[:0], CORRECT[:0])
    with pytest.raises(errors.DataError, match=r"scores: got nan at \[3\], expected finite"):
        selective.risk_coverage(np.where(np.arange(257) == 3, np.nan, SCORES), CORRECT)
    curve = selective.risk_coverage(SCORES, CORRECT)
    with pytest.raises(errors.ConfigError, match="coverage: got 80.0, expected a fraction"):
        selective.risk_at_coverage(curve, coverage=80.0)
    with pytest.raises(errors.ConfigError, match="risk: got -0.1, expected a fraction"):
        selective.coverage_at_risk(curve, risk=-0.1)
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.DataError, match=r"correct: got shape \(256,\), expected \(257,\)"):
        selective.risk_coverage(SCORES, CORRECT[1:])
