"""Calibration errors of a whole split: how far confidence is from accuracy.

None of them may be averaged over batches: by the triangle inequality the mean of batch
errors only exceeds the error of the split.

Equal-width bins are `[lo, hi)` with a confidence of exactly 1 in the last one, compared in
float64. torchmetrics opens a bin of its own for confidence 1; all else agrees with it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.core import errors, numerics
from calib_jax.metrics import inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityBins:
    """A reliability diagram in numbers, one entry per bin.

    Attributes:
      count: examples in the bin.
      confidence: their mean confidence, NaN where the bin is empty.
      accuracy: their fraction correct, NaN where the bin is empty.
      edges: the m + 1 borders of the bins, from 0 to 1.
    """

    count: Int[np.ndarray, " m"]
    confidence: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]
    edges: Float[np.ndarray, " m+1"]


def top_label(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Confidence (largest probability, float64) and correctness of every prediction.

    Raises:
      DataError: for an empty split, mismatched shapes, NaN, infinity, a label outside [0, c)
        or rows that are not distributions.
    """
    inputs.check_probs(probs, labels)
    predicted = probs.argmax(axis=1)
    confidence = probs[np.arange(len(labels)), predicted].astype(np.float64)
    return confidence, predicted == labels


def reliability_bins(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], *, num_bins: int
) -> ReliabilityBins:
    """Counts, mean confidence and accuracy in `num_bins` equal-width bins of [0, 1].

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    inputs.check_num_bins(num_bins)
    inputs.check_same_length(confidence, correct, names=("confidence", "correct"))
    inside = (confidence >= 0) & (confidence <= 1 + inputs.SUM_TOLERANCE)
    if not inside.all():
        row = int(np.argmin(inside))
        raise errors.DataError(
            f"confidence: got {confidence[row]} at [{row}], expected a probability in [0, 1]. "
            "Apply softmax to logits first."
        )
    edges = np.linspace(0, 1, num_bins + 1)
    bins = _equal_width(confidence, edges)
    count = np.bincount(bins, minlength=num_bins)
    confidence_sum = np.bincount(bins, weights=confidence, minlength=num_bins)
    correct_sum = np.bincount(bins, weights=correct, minlength=num_bins)
    examples = np.where(count > 0, count, np.nan)
    return ReliabilityBins(
        count=count,
        confidence=confidence_sum / examples,
        accuracy=correct_sum / examples,
        edges=edges,
    )


def expected_calibration_error(
    probs: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    norm: Literal["l1", "l2", "max"] = "l1",
) -> float:
    """Top-label calibration error over equal-width bins, in [0, 1]; 0 is calibrated.

    With `gap_b = |accuracy_b - confidence_b|` and weights `w_b = n_b / n`: `l1` is
    `sum_b w_b gap_b` (Guo et al. 2017, eq. 3), `l2` is `sqrt(sum_b w_b gap_b^2)` (Kumar et
    al. 2019), `max` is `max_b gap_b` over the bins that hold an example (Guo et al., eq. 5).

    Raises:
      ConfigError: if `num_bins` is below 1 or `norm` is none of the three.
      DataError: as `top_label`.
    """
    if norm not in ("l1", "l2", "max"):
        raise errors.ConfigError(
            f"norm: got {norm!r}, expected 'l1', 'l2' or 'max'. Use 'l1' for the usual ECE."
        )
    confidence, correct = top_label(probs, labels)
    bins = reliability_bins(confidence, correct, num_bins=num_bins)
    filled = bins.count > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    weights = bins.count[filled] / len(labels)
    if norm == "max":
        return float(gaps.max())
    if norm == "l2":
        return float(np.sqrt(weights @ gaps**2))
    return float(weights @ gaps)


def maximum_calibration_error(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, num_bins: int = 15
) -> float:
    """Largest gap of accuracy and confidence over the bins that hold an example, in [0, 1].

    Not weighted by the bins' mass (Guo et al. 2017, eq. 5): one example can set it.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: as `top_label`.
    """
    return expected_calibration_error(probs, labels, num_bins=num_bins, norm="max")


def adaptive_calibration_error(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, num_bins: int = 15
) -> float:
    """Top-label calibration error over equal-mass bins, in [0, 1]; 0 is calibrated.

    `sum_b w_b |accuracy_b - confidence_b|` over `num_bins` runs of the sorted confidences
    that differ in size by at most one, the larger first (Nguyen and O'Connor 2015; the
    top-label case of Nixon et al. 2019). Examples of one confidence share their mean
    accuracy, so the order of the split does not matter where a bin border cuts a tie.
    With more bins than examples every example is a bin.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: as `top_label`.
    """
    inputs.check_num_bins(num_bins)
    confidence, correct = top_label(probs, labels)
    values, tie, size = np.unique(confidence, return_inverse=True, return_counts=True)
    tied_accuracy = np.bincount(tie, weights=correct) / size
    gap = np.repeat(tied_accuracy - values, size)
    num_examples = len(labels)
    num_larger = num_examples % num_bins
    sizes = np.full(num_bins, num_examples // num_bins)
    sizes[:num_larger] += 1
    bins = np.repeat(np.arange(num_bins), sizes)
    return float(np.abs(np.bincount(bins, weights=gap)).sum() / num_examples)


def classwise_calibration_error(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, num_bins: int = 15
) -> float:
    """Mean over classes of the equal-width calibration error of each class probability.

    `1/c sum_k sum_b n_bk/n |frequency_bk - mean p_bk|` (Kull et al. 2019): every
    probability counts, not the top one alone, and every class alike. In [0, 1], usually far
    below the top-label error because most probabilities are near 0.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: as `top_label`.
    """
    inputs.check_num_bins(num_bins)
    inputs.check_probs(probs, labels)
    num_examples, num_classes = probs.shape
    edges = np.linspace(0, 1, num_bins + 1)
    first_bin = np.arange(num_classes) * num_bins
    excess = np.zeros(num_classes * num_bins)
    for rows in numerics.row_blocks(num_examples, num_classes):
        block = probs[rows].astype(np.float64)
        bins = _equal_width(block, edges) + first_bin
        # n_b |frequency - mean p| is |sum (p - hit)|: the counts cancel.
        block[np.arange(len(block)), labels[rows]] -= 1
        excess += np.bincount(bins.ravel(), weights=block.ravel(), minlength=excess.size)
    return float(np.abs(excess).sum() / (num_examples * num_classes))


def _equal_width(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin numbers: `[lo, hi)`, the last bin closed (and open to rounding above 1)."""
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)
