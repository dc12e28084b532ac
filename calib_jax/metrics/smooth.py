"""Calibration errors without bins: by cumulative sums, and by smoothing over confidence.

Smoothing works on a grid of `NUM_CELLS` cells of [0, 1], between whose centres every example is
split. Any number of examples costs one pass and a few cosine transforms. Kernels are reflected
at 0 and 1: a kernel and its mirror images are a multiplication of the cosine transform.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
import scipy.sparse
import scipy.special
from jaxtyping import Bool, Float

from calib_jax.core import inputs
from calib_jax.metrics import bins

NUM_CELLS = 8192
# Eight cells. Below it the grid shows, and nobody reports a tenth of a point.
MIN_BANDWIDTH = 1e-3
# Cells of a grid that is fine enough to search on with a kernel of this deviation.
_CELLS_A_BANDWIDTH = 16
_TOLERANCE = 1e-9
_MAX_STEPS = 100


@inputs.takes_lists
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


@inputs.takes_lists
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
    cells = interpolation(confidence).T @ residual
    return float(smooth_error_of_cells(cells[None])[0])


def smooth_error_of_cells(residual: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
    """The `smooth_calibration_error` of each row of residuals summed in the cells, over n.

    Within 1e-6 of the root on the whole grid, whose transforms are too slow for a search.
    """
    # A wide kernel leaves low waves only, which a coarse grid holds whole: rows are searched all at
    # once, from the coarsest grid on, each on the first whose bandwidths are not too large for it.
    # What is lost are the sign changes within a cell; a Newton step on a finer grid mends it.
    waves = scipy.fft.dct(residual, norm="ortho")
    errors = np.empty(len(waves))
    left, high, size = np.arange(len(waves)), 1.0, 256
    at_high = _excess(waves[:, : _num_waves(high)], np.full(len(waves), high), size)
    while True:
        low = MIN_BANDWIDTH if size == NUM_CELLS else _CELLS_A_BANDWIDTH / size
        kept = waves[left, : _num_waves(low)]
        at_low = _excess(kept, np.full(len(left), low), size)
        here = at_low > 0
        errors[left[here]] = _root(kept[here], (low, high), (at_low[here], at_high[here]), size)
        left, high, at_high = left[~here], low, at_low[~here]
        if size == NUM_CELLS or len(left) == 0:
            errors[left] = at_high + high
            return errors
        size *= 2


def _root(
    waves: np.ndarray,
    ends: tuple[float, float],
    at_ends: tuple[np.ndarray, np.ndarray],
    size: int,
) -> np.ndarray:
    """The bandwidth between the ends whose excess is 0, for each row: regula falsi (Illinois)."""
    low, high = (np.full(len(waves), end) for end in ends)
    (at_low, at_high), side = at_ends, np.zeros(len(waves))
    middle = low
    for _ in range(_MAX_STEPS):
        middle = low + (high - low) * at_low / (at_low - at_high)
        at_middle = _excess(waves, middle, size)
        if (np.minimum(np.abs(at_middle), high - low) < _TOLERANCE).all():
            break
        above = at_middle > 0
        # An end that stays twice counts half.
        at_low = np.where(above, at_middle, np.where(side < 0, at_low / 2, at_low))
        at_high = np.where(above, np.where(side > 0, at_high / 2, at_high), at_middle)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
        side = np.where(above, 1, -1)
    step = 1e-3 * middle
    slope = (_excess(waves, middle + step, size) - _excess(waves, middle, size)) / step
    finer = _excess(waves, middle, min(4 * size, NUM_CELLS))
    return np.minimum(middle - finer / slope, 1)


def _num_waves(bandwidth: float) -> int:
    """The cosines of which a Gaussian leaves more than float64's rounding, `exp(-8.5^2 / 2)`."""
    return int(8.5 / (math.pi * bandwidth)) + 1


def _excess(waves: np.ndarray, bandwidth: np.ndarray, size: int) -> np.ndarray:
    """`smECE_s - s` of each row for its bandwidth s, by a grid of `size` cells."""
    damped = waves * gaussian(bandwidth, num_waves=waves.shape[1])
    smoothed = scipy.fft.idct(damped, n=size, norm="ortho", overwrite_x=True)
    total = np.abs(smoothed, out=smoothed).sum(axis=1)
    return total * math.sqrt(NUM_CELLS / size) - bandwidth


@inputs.takes_lists
def kernel_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> float:
    """ECE of kernel density estimates, in [0, 1]; 0 is calibrated.

    `int |t - accuracy(t)| p(t) dt = int |t p(t) - q(t)| dt`: p is the estimated density of the
    confidences, q that of the correct ones times the accuracy (Zhang et al. 2020, Mix-n-Match:
    triweight kernel, reflected). Chosen among the kernel errors of the field for being defined on
    the top label alone and linear in n. The canonical error of Popordanoska et al. 2022 and
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


def gaussian(
    bandwidth: Float[np.ndarray, " r"], *, num_waves: int = NUM_CELLS
) -> Float[np.ndarray, "r k"]:
    """What Gaussians of these deviations s do to the first cosines: `exp(-(pi k s)^2 / 2)`."""
    damping = np.multiply.outer(bandwidth, np.pi * np.arange(num_waves))
    return np.exp(-(damping**2) / 2)


def triweight(bandwidth: float) -> Float[np.ndarray, " m"]:
    """What the kernel `35/32 (1 - x^2)^3` scaled to this deviation does to each cosine.

    Its Fourier transform `105 j_3(u) / u^3` at `u = 3 pi k s`; the deviation on [-1, 1] is 1/3.
    """
    u = 3 * np.pi * bandwidth * np.arange(1, NUM_CELLS)
    return np.append(1.0, 105 * scipy.special.spherical_jn(3, u) / u**3)
