import numpy as np
import pytest

from calib_jax.core import errors
from calib_jax.metrics import bins, bootstrap, calibration, smooth
from calib_jax.metrics import bootstrap_calibration as of_calibration

N = 60
RNG = np.random.default_rng(0)
# Two decimals: ties within and across the borders of the bins.
CONFIDENCE = RNG.uniform(0.3, 1, N).round(2)
CORRECT = RNG.random(N) < CONFIDENCE
LABELS = RNG.integers(0, 4, N)
PROBS = RNG.dirichlet(np.full(4, 0.5), N)
VECTORS = (CONFIDENCE, CORRECT)


def resampled(num_resamples):
    """Index lists of the resamples that `intervals` draws."""
    rng = np.random.default_rng(0)
    return [rng.integers(N, size=N) for _ in range(num_resamples)]


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
    **{
        f"width_{norm}": (
            of_calibration.calibration_error(*VECTORS, norm=norm),
            of_rows(calibration.calibration_error, norm=norm),
        )
        for norm in ("l1", "l2", "max")
    },
    "mass": (
        of_calibration.calibration_error(*VECTORS, binning="mass"),
        lambda rows: equal_mass_by_loop(rows, lambda n, p, y: np.abs(p - y).sum() / N),
    ),
    "debiased": (
        of_calibration.debiased_calibration_error(*VECTORS),
        lambda rows: equal_mass_by_loop(rows, debiased),
    ),
    "ks": (of_calibration.ks_calibration_error(*VECTORS), of_rows(smooth.ks_calibration_error)),
    "smooth": (
        of_calibration.smooth_calibration_error(*VECTORS),
        of_rows(smooth.smooth_calibration_error),
    ),
    "kernel": (of_calibration.kernel_calibration_error(*VECTORS), kernel),
    **{
        part: (
            of_calibration.brier_part(*VECTORS, part=part, num_bins=7),
            lambda rows, part=part: getattr(
                calibration.brier_decomposition(CONFIDENCE[rows], CORRECT[rows], num_bins=7), part
            ),
        )
        for part in ("reliability", "resolution", "uncertainty")
    },
    "classwise": (
        of_calibration.classwise_calibration_error(PROBS, LABELS, num_bins=6),
        lambda rows: calibration.classwise_calibration_error(PROBS[rows], LABELS[rows], num_bins=6),
    ),
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


def test_the_ece_of_a_calibrated_model_is_below_its_interval():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.3, 1, 2000)
    correct = rng.random(2000) < confidence
    statistic = of_calibration.calibration_error(confidence, correct)
    low, high = bootstrap.intervals({"ece": statistic}, num_resamples=300)["ece"]
    ece = calibration.calibration_error(confidence, correct)
    assert 0 < ece < (low + high) / 2


def test_no_interval_leaves_the_range_by_rounding():
    n = 49  # sums of 1 / 49 may exceed 1
    sure, wrong = np.ones(n), np.zeros(n, bool)
    worst = {
        "ece": of_calibration.calibration_error(sure, wrong),
        "mass": of_calibration.calibration_error(sure, wrong, num_bins=7, binning="mass"),
        "ks": of_calibration.ks_calibration_error(sure, wrong),
    }
    assert set(bootstrap.intervals(worst, num_resamples=50).values()) == {(1, 1)}
    smoothed = of_calibration.smooth_calibration_error(sure, wrong)
    low, high = bootstrap.intervals({"s": smoothed}, num_resamples=50)["s"]
    assert 1 - 1e-9 < low <= high <= 1


def test_one_example():
    one = of_calibration.calibration_error(np.array([0.8]), np.array([True]))
    assert bootstrap.intervals({"ece": one}, num_resamples=5)["ece"] == pytest.approx((0.2, 0.2))


def test_bad_input():
    for make in (
        of_calibration.calibration_error,
        of_calibration.debiased_calibration_error,
        of_calibration.ks_calibration_error,
        of_calibration.smooth_calibration_error,
        of_calibration.kernel_calibration_error,
    ):
        with pytest.raises(errors.DataError, match=r"confidence: got 2.0 at \[0\], expected a pr"):
            make(np.full(N, 2.0), CORRECT)
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        of_calibration.calibration_error(*VECTORS, num_bins=0)
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        of_calibration.classwise_calibration_error(PROBS, LABELS, num_bins=0)
    with pytest.raises(errors.DataError, match=r"probs: got a sum of 2 in row \[0\]"):
        of_calibration.classwise_calibration_error(2 * PROBS, LABELS)
