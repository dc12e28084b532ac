"""Calibration errors without bins: by cumulative sums, and by smoothing over confidence.

Smoothing works on a grid of `NUM_CELLS` cells of [0, 1], between whose centres every example is
split, so any number of examples costs one pass and a few cosine transforms. Kernels are reflected
at 0 and 1: a kernel and its mirror images are a multiplication of the cosine transform.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.optimize
import scipy.sparse
import scipy.special
from jaxtyping import Bool, Float

from calib_jax.metrics import bins

NUM_CELLS = 8192
# Eight cells. Below it the grid shows, and nobody reports a tenth of a point.
MIN_BANDWIDTH = 1e-3


def ks_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> float:
    """Largest gap of summed confidence and number correct, over n, in [0, 1]; 0 is calibrated.

    `max_t |sum_{i: confidence_i <= t} (confidence_i - correct_i)| / n`: the Kolmogorov-Smirnov
    distance of the two cumulative curves (Gupta et al. 2021). Equal confidences are summed
    together, so the order of the split does not matter. Over- and under-confidence cancel.

    Raises:
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    bins.check_confidence(confidence, correct)
    _, tie = np.unique(confidence, return_inverse=True)
    gap = np.bincount(tie, weights=confidence.astype(np.float64) - correct)
    return float(np.abs(np.cumsum(gap)).max() / len(correct))


def smooth_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> float:
    """Smooth ECE, in [0, 1]; 0 is calibrated, and its own bandwidth.

    `smECE_s = int_0^1 |1/n sum_i (correct_i - confidence_i) K_s(t, confidence_i)| dt` with the
    reflected Gaussian kernel of deviation s; the answer is the s at which `smECE_s = s`
    (Blasiok and Nakkiran 2023). It falls as s grows, so there is one. Unlike a binned error it
    is continuous in the confidences and bounds the distance to calibration from both sides.
    Bandwidths below `MIN_BANDWIDTH` are not tried (0.001, as in the authors' `relplot`, which
    reflects once and stops its bisection after ten steps).

    Raises:
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    bins.check_confidence(confidence, correct)
    residual = (confidence.astype(np.float64) - correct) / len(correct)
    return smooth_error_of_cells(interpolation(confidence).T @ residual)


def smooth_error_of_cells(residual: Float[np.ndarray, " m"]) -> float:
    """The `smooth_calibration_error` of residuals summed in the cells and divided by n."""
    waves = scipy.fft.dct(residual, norm="ortho")

    def excess(bandwidth: float) -> float:
        smoothed = scipy.fft.idct(waves * gaussian(bandwidth), norm="ortho")
        return float(np.abs(smoothed).sum()) - bandwidth

    at_least = excess(MIN_BANDWIDTH)
    if at_least <= 0:
        return at_least + MIN_BANDWIDTH
    return float(scipy.optimize.brentq(excess, MIN_BANDWIDTH, 2.0, xtol=1e-9))


def kernel_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> float:
    """ECE of kernel density estimates, in [0, 1]; 0 is calibrated.

    `int |t - accuracy(t)| p(t) dt = int |t p(t) - q(t)| dt`: p is the estimated density of the
    confidences, q that of the correct ones times the accuracy (Zhang et al. 2020, Mix-n-Match:
    triweight kernel, reflected). Chosen among the kernel errors of the field for being defined on
    the top label alone and linear in n: the canonical error of Popordanoska et al. 2022 and
    SKCE compare all pairs. The bandwidth is that of `kernel_bandwidth`; where confidences cluster
    its width adds to the error even of a calibrated model, which smooth ECE avoids.

    Raises:
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    bins.check_confidence(confidence, correct)
    grid = interpolation(confidence).T / len(correct)
    return float(
        kernel_error_of_cells(
            grid @ np.ones(len(correct)),
            grid @ correct.astype(np.float64),
            bandwidth=kernel_bandwidth(confidence),
        )
    )


def kernel_error_of_cells(
    examples: Float[np.ndarray, "*r m"], correct: Float[np.ndarray, "*r m"], *, bandwidth: float
) -> Float[np.ndarray, "*r"]:
    """The `kernel_calibration_error` of shares of all and of correct examples in the cells."""
    kernel = triweight(bandwidth)
    density, hits = (
        scipy.fft.idct(scipy.fft.dct(cells, norm="ortho") * kernel, norm="ortho")
        for cells in (examples, correct)
    )
    centres = (np.arange(NUM_CELLS) + 0.5) / NUM_CELLS
    return np.asarray(np.abs(centres * density - hits).sum(axis=-1))


def kernel_bandwidth(confidence: Float[np.ndarray, " n"]) -> float:
    """Deviation of the kernel, `std(confidence) (2 n)^(-1/5)` and at least `MIN_BANDWIDTH`.

    As in the code of Zhang et al. 2020, but for the deviation: theirs is that of the correct
    examples alone, of which there may be none.
    """
    return max(float(confidence.std()) * (2 * len(confidence)) ** -0.2, MIN_BANDWIDTH)


def interpolation(confidence: Float[np.ndarray, " n"]) -> scipy.sparse.csr_array:
    """The share [n m] of every example in every cell, linear between the centres; rows sum to 1."""
    position = confidence.astype(np.float64) * NUM_CELLS - 0.5
    below = np.floor(position)
    upper = position - below
    cells = np.stack([below, below + 1], axis=1).clip(0, NUM_CELLS - 1).astype(np.int64)
    shares = np.stack([1 - upper, upper], axis=1)
    rows = 2 * np.arange(len(confidence) + 1)
    shape = (len(confidence), NUM_CELLS)
    return scipy.sparse.csr_array((shares.ravel(), cells.ravel(), rows), shape=shape)


def gaussian(bandwidth: float) -> Float[np.ndarray, " m"]:
    """What a Gaussian of this deviation does to each cosine: `exp(-(pi k s)^2 / 2)`."""
    return np.exp(-((np.pi * bandwidth * np.arange(NUM_CELLS)) ** 2) / 2)


def triweight(bandwidth: float) -> Float[np.ndarray, " m"]:
    """What the kernel `35/32 (1 - x^2)^3` scaled to this deviation does to each cosine.

    Its Fourier transform `105 j_3(u) / u^3` at `u = 3 pi k s`; the deviation on [-1, 1] is 1/3.
    """
    u = 3 * np.pi * bandwidth * np.arange(1, NUM_CELLS)
    return np.append(1.0, 105 * scipy.special.spherical_jn(3, u) / u**3)
