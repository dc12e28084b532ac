"""Bootstrap statistics of calibration errors: of bins, of classes, of sums and of smooth curves.

Every error is a function of summed counts, in the bins or on the grid of the split itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from calib_jax.core import inputs, numerics
from calib_jax.metrics import bins, calibration, smooth
from calib_jax.metrics.bins import Binning, BinSums
from calib_jax.metrics.bootstrap import Counts, Statistic, Values, indicator
from calib_jax.metrics.calibration import Norm


def calibration_error(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    norm: Norm = "l1",
    binning: Binning = "width",
) -> Statistic:
    """`calibration.calibration_error`, in the bins of the split itself.

    Equal-mass bins are not drawn anew: a resample need not hold as many examples in each.

    Raises:
      ConfigError: as there (an unknown `norm` when the intervals are asked for).
      DataError: as there.
    """
    return _binned(
        confidence,
        correct,
        number=lambda sums: calibration.error_of_sums(sums, norm=norm),
        num_bins=num_bins,
        binning=binning,
    )


def debiased_calibration_error(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "mass",
) -> Statistic:
    """`calibration.debiased_calibration_error`, in the bins of the split itself.

    What it takes off is the noise of one sample, and a resample has twice that.

    Raises:
      ConfigError: as there.
      DataError: as there.
    """
    return _binned(
        confidence,
        correct,
        number=calibration.debiased_error_of_sums,
        num_bins=num_bins,
        binning=binning,
    )


def ks_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> Statistic:
    """`smooth.ks_calibration_error`.

    Raises:
      DataError: as there.
    """
    bins.check_confidence(confidence, correct)
    groups = indicator(np.unique(confidence, return_inverse=True)[1])
    residual = confidence.astype(np.float64) - correct

    def of_counts(counts: Counts) -> Values:
        gap = np.abs(np.cumsum((counts * residual) @ groups, axis=1)).max(axis=1)
        return gap / len(residual)

    return Statistic((len(correct),), of_counts)


def smooth_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> Statistic:
    """`smooth.smooth_calibration_error`, each resample with a bandwidth of its own.

    Raises:
      DataError: as there.
    """
    bins.check_confidence(confidence, correct)
    residual = (confidence.astype(np.float64) - correct) / len(correct)
    cells = smooth.interpolation(confidence).multiply(residual[:, None]).tocsr()

    def of_counts(counts: Counts) -> Values:
        blocks = numerics.row_blocks(len(counts), smooth.NUM_CELLS)
        return np.concatenate(
            [smooth.smooth_error_of_cells(counts[rows] @ cells) for rows in blocks]
        )

    return Statistic((len(correct),), of_counts)


def kernel_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> Statistic:
    """`smooth.kernel_calibration_error`, with the bandwidth of the split itself.

    Raises:
      DataError: as there.
    """
    bins.check_confidence(confidence, correct)
    cells = smooth.interpolation(confidence) / len(correct)
    bandwidth = smooth.kernel_bandwidth(confidence)
    hits = correct.astype(np.float64)

    def of_counts(counts: Counts) -> Values:
        return smooth.kernel_error_of_cells(
            counts @ cells, (counts * hits) @ cells, bandwidth=bandwidth
        )

    return Statistic((len(correct),), of_counts)


def brier_part(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    part: Literal["reliability", "resolution", "uncertainty"],
    num_bins: int = 15,
) -> Statistic:
    """A part of `calibration.brier_decomposition`.

    Raises:
      ConfigError: as there.
      DataError: as there.
    """
    return _binned(
        confidence,
        correct,
        number=lambda sums: getattr(calibration.brier_parts_of_sums(sums), part),
        num_bins=num_bins,
        binning="width",
    )


def classwise_calibration_error(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, num_bins: int = 15
) -> Statistic:
    """`calibration.classwise_calibration_error`: the time of a resample grows with `n c`.

    Raises:
      ConfigError: as there.
      DataError: as there.
    """
    inputs.check_num_bins(num_bins)
    inputs.check_probs(probs, labels)
    num_examples, num_classes = probs.shape
    excess = probs.astype(np.float64)
    columns = bins.equal_width(excess, num_bins=num_bins) + np.arange(num_classes) * num_bins
    excess[np.arange(num_examples), labels] -= 1
    rows = np.arange(num_examples + 1) * num_classes
    shape = (num_examples, num_classes * num_bins)
    matrix = scipy.sparse.csr_array((excess.ravel(), columns.ravel(), rows), shape=shape)

    def of_counts(counts: Counts) -> Values:
        return np.abs(counts @ matrix).sum(axis=1) / probs.size

    return Statistic((num_examples,), of_counts)


def _binned(
    confidence: np.ndarray,
    correct: np.ndarray,
    *,
    number: Callable[[BinSums], np.ndarray],
    num_bins: int,
    binning: Binning,
) -> Statistic:
    bins.check_confidence(confidence, correct)
    shares = scipy.sparse.csr_array(
        bins.memberships(confidence, num_bins=num_bins, binning=binning)
    )
    values = (np.ones(len(correct)), confidence.astype(np.float64), correct.astype(np.float64))
    matrix = scipy.sparse.hstack([shares.multiply(value[:, None]) for value in values]).tocsr()

    def of_counts(counts: Counts) -> Values:
        count, confidence_sum, correct_sum = np.split(counts @ matrix, 3, axis=1)
        return number(BinSums(count=count, confidence=confidence_sum, correct=correct_sum))

    return Statistic((len(correct),), of_counts)
