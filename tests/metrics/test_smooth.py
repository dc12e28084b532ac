import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
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
        (smooth.gaussian, gaussian_pdf),
        (smooth.triweight, triweight_pdf),
    ):
        for k in (0, 1, 7, 40):
            waves = np.trapezoid(np.cos(np.pi * k * t) * pdf(t, 0.05), t)
            assert transform(0.05)[k] == pytest.approx(waves, abs=1e-9)


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
