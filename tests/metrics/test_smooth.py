import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.fft
import scipy.optimize

from calib_jax.core import errors
from calib_jax.metrics import smooth

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.beta(5, 2, size=257)
CORRECT = RNG.random(257) < CONFIDENCE**1.5
ALL = {
    "ks": smooth.ks_calibration_error,
    "smooth": smooth.smooth_calibration_error,
    "kernel": smooth.kernel_calibration_error,
}


def gaussian_pdf(x, deviation):
    return np.exp(-((x / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))


def triweight_pdf(x, deviation):
    x = x / (3 * deviation)
    return np.where(np.abs(x) < 1, 35 / 32 * (1 - x**2) ** 3, 0) / (3 * deviation)


def smoothed_by_loop(values, confidence, pdf, t):
    """Sum over examples of value * kernel at the points t, with the images at -x, 2 - x, ..."""
    total = np.zeros_like(t)
    for value, x in zip(values, confidence, strict=True):
        for image in (x, -x, 2 - x, x - 2, x + 2):
            total += value * pdf(t - image)
    return total


def test_ks_by_loop():
    confidence = CONFIDENCE.round(2)
    gaps = [
        abs(sum(c - y for c, y in zip(confidence, CORRECT, strict=True) if c <= t)) / 257
        for t in confidence
    ]
    value = smooth.ks_calibration_error(confidence, CORRECT)
    np.testing.assert_allclose(value, max(gaps), rtol=1e-12)


def test_smooth_by_loop():
    confidence, correct, t = CONFIDENCE[:30], CORRECT[:30], (np.arange(2000) + 0.5) / 2000

    def excess(deviation):
        residual = (confidence - correct) / 30
        kernel = functools.partial(gaussian_pdf, deviation=deviation)
        return np.abs(smoothed_by_loop(residual, confidence, kernel, t)).mean() - deviation

    expected = scipy.optimize.brentq(excess, 1e-2, 1, xtol=1e-9)
    value = smooth.smooth_calibration_error(confidence, correct)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


def smooth_on_the_whole_grid(residual):
    """The root for one row of cells, every transform of the search on all cells."""
    waves = scipy.fft.dct(residual, norm="ortho")

    def excess(bandwidth):
        damped = waves * np.exp(-((np.pi * bandwidth * np.arange(len(waves))) ** 2) / 2)
        return np.abs(scipy.fft.idct(damped, norm="ortho")).sum() - bandwidth

    least = excess(smooth.MIN_BANDWIDTH)
    if least <= 0:
        return least + smooth.MIN_BANDWIDTH
    return scipy.optimize.brentq(excess, smooth.MIN_BANDWIDTH, 2, xtol=1e-9)


def test_smooth_is_the_root_on_the_whole_grid():
    rng, splits = np.random.default_rng(3), []
    for n in (1, 2, 5, 40, 4000):
        for gap in (0.0, 0.3):
            confidence = rng.uniform(0.3, 1, n)
            splits.append((confidence, rng.random(n) < confidence - gap))
    ones, cells = np.ones(8), smooth.interpolation
    splits += [(share * ones, ones > 2) for share in (0.0, 0.4, 1.0)]  # equal, all right
    splits += [(share * ones, ones < 1) for share in (0.0, 0.4, 1.0)]  # equal, all wrong
    # Calibrated: by sampling noise just above the least bandwidth, and exactly.
    many = rng.uniform(0.3, 1, 2_000_000)
    splits += [(many, rng.random(len(many)) < many), (np.full(2, 0.5), np.array([True, False]))]
    rows = np.stack([cells(p).T @ ((p - y) / len(y)) for p, y in splits])
    got, expected = smooth.smooth_error_of_cells(rows), list(map(smooth_on_the_whole_grid, rows))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    assert got.max() <= 1 and 0 < got[-2] < 2.5e-3 and got[-1] < 1e-12
    # Neither order nor company matters, be it in the memory of a sparse product.
    alone = np.concatenate([smooth.smooth_error_of_cells(row[None]) for row in rows])
    np.testing.assert_allclose(alone, got, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(smooth.smooth_error_of_cells(rows[::-1])[::-1], got)
    np.testing.assert_array_equal(smooth.smooth_error_of_cells(np.asfortranarray(rows)), got)


def test_kernel_by_loop():
    confidence, correct, t = CONFIDENCE[:30], CORRECT[:30], (np.arange(4000) + 0.5) / 4000
    kernel = functools.partial(triweight_pdf, deviation=confidence.std() * (2 * 30) ** -0.2)
    density = smoothed_by_loop(np.full(30, 1 / 30), confidence, kernel, t)
    hits = smoothed_by_loop(correct / 30, confidence, kernel, t)
    accuracy = hits / np.maximum(density, 1e-12)
    value = smooth.kernel_calibration_error(confidence, correct)
    expected = (np.abs(t - accuracy) * density).mean()
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


def test_kernels_are_transforms_of_their_densities():
    t = np.linspace(-1, 1, 200_001)
    for transform, pdf in (
        (smooth.gaussian(np.array([0.05]))[0], gaussian_pdf),
        (smooth.triweight(0.05), triweight_pdf),
    ):
        for k in (0, 1, 7, 40):
            waves = np.trapezoid(np.cos(np.pi * k * t) * pdf(t, 0.05), t)
            assert transform[k] == pytest.approx(waves, abs=1e-9)


def test_grid_keeps_count_and_mean():
    grid = smooth.interpolation(np.array([0.0, 0.3, 0.5, 1.0, 1.0000001]))
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    centres = (np.arange(smooth.NUM_CELLS) + 0.5) / smooth.NUM_CELLS
    np.testing.assert_allclose((grid @ centres)[1:3], [0.3, 0.5])


@pytest.mark.parametrize("n", [1, 9])
def test_sure_and_wrong_is_the_worst(n):
    sure, wrong = np.ones(n), np.zeros(n, bool)
    assert smooth.ks_calibration_error(sure, wrong) == 1
    assert smooth.kernel_calibration_error(sure, wrong) == pytest.approx(1, abs=2e-3)
    assert smooth.smooth_calibration_error(sure, wrong) == pytest.approx(1)


def test_calibrated_groups_have_none():
    confidence = np.repeat([0.25, 0.5, 0.75], 8)
    correct = np.concatenate([np.arange(8) < k for k in (2, 4, 6)])
    assert smooth.ks_calibration_error(confidence, correct) == 0
    assert smooth.smooth_calibration_error(confidence, correct) == pytest.approx(0, abs=1e-12)
    # Three values are no density: the kernel's width adds to the error.
    assert smooth.kernel_calibration_error(confidence, correct) == pytest.approx(0.034, abs=1e-3)


@pytest.mark.parametrize("shift", [0.05, 0.2])
def test_a_constant_gap_is_found(shift):
    # n = 200,000: what sampling adds to the smooth error is below the tolerance.
    rng = np.random.default_rng(1)
    accuracy = rng.uniform(0.3, 0.7, 200_000)
    correct = rng.random(200_000) < accuracy
    for name, metric in ALL.items():
        assert metric(accuracy + shift, correct) == pytest.approx(shift, abs=4e-3), name


@hypothesis.settings(deadline=None, max_examples=12, derandomize=True)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_properties(seed, n):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.integers(0, 11, n) / 10, rng.random(n) < 0.6
    order = rng.permutation(n)
    for name, metric in ALL.items():
        value = metric(confidence, correct)
        assert -1e-9 <= value <= 1 + 2e-3, name
        assert metric(confidence[order], correct[order]) == pytest.approx(value, abs=1e-9), name
        doubled = metric(np.tile(confidence, 2), np.tile(correct, 2))
        if name != "kernel":  # whose bandwidth falls with n
            assert doubled == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("name", ALL)
def test_bad_input(name, monkeypatch):
    with pytest.raises(errors.DataError, match="confidence: got 0 examples"):
        ALL[name](CONFIDENCE[:0], CORRECT[:0])
    with pytest.raises(errors.DataError, match=r"confidence: got 1.5 at \[0\], expected a prob"):
        ALL[name](np.full(2, 1.5), np.ones(2, bool))
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.DataError, match=r"correct: got shape \(256,\), expected \(257,\)"):
        ALL[name](CONFIDENCE, CORRECT[1:])
