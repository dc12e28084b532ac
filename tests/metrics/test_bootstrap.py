import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from calib_jax.core import errors
from calib_jax.metrics import bins, bootstrap, calibration, smooth

N = 60
RNG = np.random.default_rng(0)
# Two decimals: ties within and across the borders of the bins.
CONFIDENCE = RNG.uniform(0.3, 1, N).round(2)
CORRECT = RNG.random(N) < CONFIDENCE
LABELS = RNG.integers(0, 5, N)
PREDICTED = np.where(CORRECT, LABELS, (LABELS + 1) % 5)
VECTORS = (CONFIDENCE, CORRECT)


def resampled(num_resamples, *, seed=0, n=N):
    """Index lists of the resamples that `intervals` draws."""
    rng = np.random.default_rng(seed)
    return [rng.integers(n, size=n) for _ in range(num_resamples)]


def equal_mass_by_loop(rows, error):
    """The error in the bins of the split: a tie that a border cuts is in both in proportion."""
    sums = np.zeros((3, 15))
    share = bins.memberships(CONFIDENCE, num_bins=15, binning="mass")
    for i in rows:
        sums += np.array([1, CONFIDENCE[i], CORRECT[i]])[:, None] * share[i]
    return error(*sums)


def debiased(count, confidence, correct):
    total = 0.0
    for n, p, y in zip(count, confidence, correct, strict=True):
        if n > 1:
            total += n * ((y / n - p / n) ** 2 - y / n * (1 - y / n) / (n - 1))
    return max(0, total / N) ** 0.5


def sklearn_macro_f1(rows):
    return sklearn_metrics.f1_score(LABELS[rows], PREDICTED[rows], average="macro")


def recall(rows):
    labels, hits = LABELS[rows], (PREDICTED == LABELS)[rows]
    return np.mean([hits[labels == k].mean() for k in np.unique(labels)])


def kernel(rows):
    cells = smooth.interpolation(CONFIDENCE[rows])
    return smooth.kernel_error_of_cells(
        cells.T @ np.full(N, 1 / N),
        cells.T @ (CORRECT[rows] / N),
        bandwidth=smooth.kernel_bandwidth(CONFIDENCE),
    )


def of_rows(metric, **options):
    return lambda rows: metric(CONFIDENCE[rows], CORRECT[rows], **options)


STATISTICS = {
    "accuracy": (bootstrap.mean(CORRECT), lambda rows: CORRECT[rows].mean()),
    "confidence": (
        bootstrap.mean(CONFIDENCE.astype(np.float32)),
        lambda rows: CONFIDENCE.astype(np.float32)[rows].astype(np.float64).mean(),
    ),
    "balanced": (bootstrap.balanced_accuracy(PREDICTED, LABELS), recall),
    "macro_f1": (bootstrap.macro_f1(PREDICTED, LABELS), sklearn_macro_f1),
    **{
        f"width_{norm}": (
            bootstrap.calibration_error(*VECTORS, norm=norm),
            of_rows(calibration.calibration_error, norm=norm),
        )
        for norm in ("l1", "l2", "max")
    },
    "mass": (
        bootstrap.calibration_error(*VECTORS, binning="mass"),
        lambda rows: equal_mass_by_loop(rows, lambda n, p, y: np.abs(p - y).sum() / N),
    ),
    "debiased": (
        bootstrap.debiased_calibration_error(*VECTORS),
        lambda rows: equal_mass_by_loop(rows, debiased),
    ),
    "ks": (bootstrap.ks_calibration_error(*VECTORS), of_rows(smooth.ks_calibration_error)),
    "smooth": (
        bootstrap.smooth_calibration_error(*VECTORS),
        of_rows(smooth.smooth_calibration_error),
    ),
    "kernel": (bootstrap.kernel_calibration_error(*VECTORS), kernel),
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


def test_equal_mass_of_the_split_is_the_adaptive_error():
    value = STATISTICS["mass"][0].of_counts(np.ones((1, N)))[0]
    assert value == pytest.approx(calibration.calibration_error(*VECTORS, binning="mass"))


def test_difference_is_paired():
    first, second = STATISTICS["accuracy"], STATISTICS["confidence"]
    values = [first[1](rows) - second[1](rows) for rows in resampled(20, seed=3)]
    statistic = bootstrap.difference(first[0], second[0])
    low, high = bootstrap.intervals({"d": statistic}, num_resamples=20, seed=3)["d"]
    np.testing.assert_allclose([low, high], np.quantile(values, [0.025, 0.975]), atol=1e-12)
    nothing = bootstrap.difference(first[0], first[0])
    assert bootstrap.intervals({"d": nothing}, num_resamples=20)["d"] == (0, 0)


def test_neither_blocks_nor_company_matter(monkeypatch):
    chosen = {name: STATISTICS[name][0] for name in ("accuracy", "width_l1", "ks")}
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


def test_the_ece_of_a_calibrated_model_is_below_its_interval():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.3, 1, 2000)
    correct = rng.random(2000) < confidence
    statistic = bootstrap.calibration_error(confidence, correct)
    low, high = bootstrap.intervals({"ece": statistic}, num_resamples=300)["ece"]
    ece = calibration.calibration_error(confidence, correct)
    assert 0 < ece < (low + high) / 2


def test_one_example():
    one = {
        "mean": bootstrap.mean(np.array([3.0])),
        "ece": bootstrap.calibration_error(np.array([0.8]), np.array([True])),
        "f1": bootstrap.macro_f1(np.array([4]), np.array([4])),
    }
    intervals = bootstrap.intervals(one, num_resamples=5)
    assert intervals["mean"] == (3, 3)
    assert intervals["ece"] == (pytest.approx(0.2), pytest.approx(0.2))
    assert intervals["f1"] == (1, 1)


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
    for make in (
        bootstrap.calibration_error,
        bootstrap.debiased_calibration_error,
        bootstrap.ks_calibration_error,
        bootstrap.smooth_calibration_error,
        bootstrap.kernel_calibration_error,
    ):
        with pytest.raises(errors.DataError, match=r"confidence: got 2.0 at \[0\], expected a pr"):
            make(np.full(N, 2.0), CORRECT)
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        bootstrap.calibration_error(*VECTORS, num_bins=0)
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    for make in (bootstrap.balanced_accuracy, bootstrap.macro_f1):
        with pytest.raises(errors.DataError, match=r"labels: got shape \(59,\), expected \(60,\)"):
            make(PREDICTED, LABELS[1:])
