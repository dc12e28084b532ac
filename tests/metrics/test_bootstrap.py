import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from calib_jax.core import errors
from calib_jax.metrics import bootstrap, bootstrap_curves

N = 60
RNG = np.random.default_rng(0)
CONFIDENCE = RNG.uniform(0.3, 1, N).round(2)
CORRECT = RNG.random(N) < CONFIDENCE
LABELS = RNG.integers(0, 5, N)
PREDICTED = np.where(CORRECT, LABELS, (LABELS + 1) % 5)


def resampled(num_resamples, *, seed=0, n=N):
    """Index lists of the resamples that `intervals` draws."""
    rng = np.random.default_rng(seed)
    return [rng.integers(n, size=n) for _ in range(num_resamples)]


def sklearn_macro_f1(rows):
    return sklearn_metrics.f1_score(LABELS[rows], PREDICTED[rows], average="macro")


def recall(rows):
    labels, hits = LABELS[rows], (PREDICTED == LABELS)[rows]
    return np.mean([hits[labels == k].mean() for k in np.unique(labels)])


STATISTICS = {
    "accuracy": (bootstrap.mean(CORRECT), lambda rows: CORRECT[rows].mean()),
    "confidence": (
        bootstrap.mean(CONFIDENCE.astype(np.float32)),
        lambda rows: CONFIDENCE.astype(np.float32)[rows].astype(np.float64).mean(),
    ),
    "balanced": (bootstrap.balanced_accuracy(PREDICTED, LABELS), recall),
    "macro_f1": (bootstrap.macro_f1(PREDICTED, LABELS), sklearn_macro_f1),
    "top5": (bootstrap.mean(LABELS < 3), lambda rows: (LABELS < 3)[rows].mean()),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_by_explicit_resampling(name):
    statistic, by_rows = STATISTICS[name]
    values = [by_rows(rows) for rows in resampled(20)]
    low, high = bootstrap.intervals({name: statistic}, num_resamples=20, level=0.8)[name]
    np.testing.assert_allclose([low, high], np.quantile(values, [0.1, 0.9]), rtol=0, atol=1e-9)
    # A row of ones is the split itself.
    value = statistic.of_counts(np.ones((1, N)))[0]
    assert value == pytest.approx(by_rows(np.arange(N)), abs=1e-9)


def test_difference_is_paired():
    first, second = STATISTICS["accuracy"], STATISTICS["confidence"]
    values = [first[1](rows) - second[1](rows) for rows in resampled(20, seed=3)]
    statistic = bootstrap.difference(first[0], second[0])
    low, high = bootstrap.intervals({"d": statistic}, num_resamples=20, seed=3)["d"]
    np.testing.assert_allclose([low, high], np.quantile(values, [0.025, 0.975]), atol=1e-12)
    nothing = bootstrap.difference(first[0], first[0])
    assert bootstrap.intervals({"d": nothing}, num_resamples=20)["d"] == (0, 0)


def test_neither_blocks_nor_company_matter(monkeypatch):
    chosen = {name: STATISTICS[name][0] for name in ("accuracy", "balanced", "macro_f1")}
    together = bootstrap.intervals(chosen, num_resamples=20)
    monkeypatch.setattr(bootstrap, "BLOCK_ELEMENTS", 3 * N)
    for name in chosen:
        alone = bootstrap.intervals({name: chosen[name]}, num_resamples=20)
        np.testing.assert_allclose(alone[name], together[name], rtol=1e-12)
    assert bootstrap.intervals({}) == {}


def test_intervals_cover_the_mean():
    rng, covered = np.random.default_rng(1), 0
    for simulation in range(200):
        statistic = bootstrap.mean(rng.normal(2, 1, 40))
        interval = bootstrap.intervals({"m": statistic}, num_resamples=200, seed=simulation)["m"]
        covered += interval.low <= 2 <= interval.high
    # 0.93 expected at n = 40; four standard errors of 200 simulations are 0.07.
    assert 0.86 <= covered / 200 <= 0.99


def test_one_example():
    one = {
        "mean": bootstrap.mean(np.array([3.0])),
        "f1": bootstrap.macro_f1(np.array([4]), np.array([4])),
    }
    intervals = bootstrap.intervals(one, num_resamples=5)
    assert intervals["mean"] == (3, 3)
    assert intervals["f1"] == (1, 1)


def test_no_interval_leaves_the_range_by_rounding():
    n = 49  # 49 * (1 / 49) is 0.9999999999999999, and sums of 1 / 49 may exceed 1
    sure, right, labels = np.ones(n), np.ones(n, bool), np.arange(n) % 3
    best = {
        "mean": bootstrap.mean(right),
        "confidence": bootstrap.mean(sure),
        "balanced": bootstrap.balanced_accuracy(labels, labels),
        "f1": bootstrap.macro_f1(labels, labels),
        "aurc": bootstrap_curves.aurc(sure, ~right),
    }
    assert set(bootstrap.intervals(best, num_resamples=50).values()) == {(1, 1)}
    assert bootstrap.intervals({"b": bootstrap.mean(2 * sure)}, num_resamples=50)["b"] == (2, 2)


def test_bad_input(monkeypatch):
    statistic = STATISTICS["accuracy"][0]
    with pytest.raises(errors.ConfigError, match="num_resamples: got 1, expected at least 2"):
        bootstrap.intervals({"a": statistic}, num_resamples=1)
    with pytest.raises(errors.ConfigError, match="level: got 95.0, expected a fraction above 0"):
        bootstrap.intervals({"a": statistic}, level=95.0)
    other = bootstrap.mean(np.ones(3))
    with pytest.raises(errors.DataError, match=r"statistics: got examples \(3,\) and \(60,\), exp"):
        bootstrap.intervals({"a": statistic, "b": other})
    with pytest.raises(errors.DataError, match=r"second: got examples \(3,\), expected \(60,\)"):
        bootstrap.difference(statistic, other)
    with pytest.raises(errors.DataError, match=r"values: got inf at \[1\], expected finite"):
        bootstrap.mean(np.array([0.0, np.inf]))
    with pytest.raises(errors.DataError, match="values: got 0 examples"):
        bootstrap.mean(np.ones(0))
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    for make in (bootstrap.balanced_accuracy, bootstrap.macro_f1):
        with pytest.raises(errors.DataError, match=r"labels: got shape \(59,\), expected \(60,\)"):
            make(PREDICTED, LABELS[1:])
