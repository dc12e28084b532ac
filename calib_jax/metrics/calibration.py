"""Calibration errors of a whole split: how far confidence is from accuracy.

None of them may be averaged over batches: by the triangle inequality the mean of batch
errors only exceeds the error of the split.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.core import errors, inputs, numerics
from calib_jax.metrics import bins as binned
from calib_jax.metrics.bins import Binning, BinSums

Norm = Literal["l1", "l2", "max"]


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


@inputs.takes_lists
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


def error_of_sums(sums: BinSums, *, norm: Norm = "l1") -> Float[np.ndarray, "*r"]:
    """The `calibration_error` of every set of bins.

    Raises:
      ConfigError: if `norm` is none of the three.
    """
    _check_norm(norm)
    gap = np.abs(sums.correct - sums.confidence)
    num_examples = sums.count.sum(axis=-1)
    if norm == "l1":
        return np.asarray(gap.sum(axis=-1) / num_examples)
    mean_gap = np.divide(gap, sums.count, out=np.zeros_like(gap), where=sums.count > 0)
    if norm == "max":
        return np.asarray(mean_gap.max(axis=-1))
    return np.asarray(np.sqrt((gap * mean_gap).sum(axis=-1) / num_examples))


@inputs.takes_lists
def calibration_error(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    norm: Norm = "l1",
    binning: Binning = "width",
) -> float:
    """Gap of accuracy and confidence over the bins of `bin_sums`, in [0, 1]; 0 is calibrated.

    With `gap_b = |accuracy_b - confidence_b|` and weights `w_b = n_b / n`: `l1` is
    `sum_b w_b gap_b` (Guo et al. 2017, eq. 3), `l2` is `sqrt(sum_b w_b gap_b^2)` (Kumar et
    al. 2019), `max` is `max_b gap_b` over the bins that hold an example (Guo et al., eq. 5).

    Raises:
      ConfigError: if `norm` is none of the three, and as `bin_sums`.
      DataError: as `bin_sums`.
    """
    _check_norm(norm)
    sums = binned.bin_sums(confidence, correct, num_bins=num_bins, binning=binning)
    return float(error_of_sums(sums, norm=norm))


@inputs.takes_lists
def reliability_bins(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], *, num_bins: int
) -> ReliabilityBins:
    """Counts, mean confidence and accuracy in `num_bins` equal-width bins of [0, 1].

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    sums = binned.bin_sums(confidence, correct, num_bins=num_bins)
    examples = np.where(sums.count > 0, sums.count, np.nan)
    return ReliabilityBins(
        count=sums.count.astype(np.int64),
        confidence=sums.confidence / examples,
        accuracy=sums.correct / examples,
        edges=binned.equal_width_edges(num_bins),
    )


@inputs.takes_lists
def expected_calibration_error(
    probs: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    norm: Norm = "l1",
) -> float:
    """Top-label `calibration_error` over equal-width bins, in [0, 1]; 0 is calibrated.

    Raises:
      ConfigError: if `num_bins` is below 1 or `norm` is none of the three.
      DataError: as `top_label`.
    """
    return calibration_error(*top_label(probs, labels), num_bins=num_bins, norm=norm)


@inputs.takes_lists
def maximum_calibration_error(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, num_bins: int = 15
) -> float:
    """Largest gap of accuracy and confidence over the bins that hold an example, in [0, 1].

    Not weighted by the bins' mass (Guo et al. 2017, eq. 5): one example can set it.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: as `top_label`.
    """
    return calibration_error(*top_label(probs, labels), num_bins=num_bins, norm="max")


@inputs.takes_lists
def adaptive_calibration_error(
    probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, num_bins: int = 15
) -> float:
    """Top-label `calibration_error` over equal-mass bins, in [0, 1]; 0 is calibrated.

    Nguyen and O'Connor 2015; the top-label case of Nixon et al. 2019. With more bins than
    examples every example is a bin.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: as `top_label`.
    """
    return calibration_error(*top_label(probs, labels), num_bins=num_bins, binning="mass")


def debiased_error_of_sums(sums: BinSums) -> Float[np.ndarray, "*r"]:
    """The `debiased_calibration_error` of every set of bins."""
    count = np.where(sums.count > 1, sums.count, np.nan)
    accuracy = sums.correct / count
    squared = (accuracy - sums.confidence / count) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    mean = np.nansum(count * squared, axis=-1) / sums.count.sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(mean, 0)))


@inputs.takes_lists
def debiased_calibration_error(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "mass",
) -> float:
    """l2 calibration error without the part that sampling alone explains, in [0, 1].

    `sqrt(max(0, sum_b w_b [gap_b^2 - accuracy_b (1 - accuracy_b) / (n_b - 1)]))`: the variance
    of a bin's accuracy is taken from its squared gap, and a bin of one example counts 0 (Kumar
    et al. 2019, the debiased estimator; their code's `unbiased_l2_ce`, where equal-mass bins
    are cut at other places if n is no multiple of `num_bins`). Unbiased before the root only.

    Raises:
      ConfigError: as `bin_sums`.
      DataError: as `bin_sums`.
    """
    sums = binned.bin_sums(confidence, correct, num_bins=num_bins, binning=binning)
    return float(debiased_error_of_sums(sums))


class BrierParts(NamedTuple):
    """Parts of Brier scores that are functions of the bins (Murphy 1973); shape as the sums'.

    Attributes:
      reliability: mean squared gap of accuracy and confidence over the bins; 0 is calibrated.
      resolution: variance of the bins' accuracies: how far confidence tells right from wrong.
      uncertainty: `a (1 - a)` for the accuracy `a` of the split.
    """

    reliability: Float[np.ndarray, "*r"]
    resolution: Float[np.ndarray, "*r"]
    uncertainty: Float[np.ndarray, "*r"]


class BrierDecomposition(NamedTuple):
    """Parts of a Brier score: `reliability - resolution + uncertainty + residual`.

    Attributes:
      reliability: as of `BrierParts`.
      resolution: as of `BrierParts`.
      uncertainty: as of `BrierParts`.
      residual: variance of confidence within the bins, less twice its covariance with being
        correct there (Stephenson et al. 2008); 0 where a bin holds one confidence only.
    """

    reliability: float
    resolution: float
    uncertainty: float
    residual: float


def brier_parts_of_sums(sums: BinSums) -> BrierParts:
    """The parts of the top-label Brier score of every set of bins."""
    count = np.where(sums.count > 0, sums.count, 1)
    num_examples = sums.count.sum(axis=-1, keepdims=True)
    share, accuracy = sums.count / num_examples, sums.correct / count
    mean = sums.correct.sum(axis=-1, keepdims=True) / num_examples
    return BrierParts(
        reliability=(share * (accuracy - sums.confidence / count) ** 2).sum(axis=-1),
        resolution=(share * (accuracy - mean) ** 2).sum(axis=-1),
        uncertainty=(mean * (1 - mean))[..., 0],
    )


@inputs.takes_lists
def brier_decomposition(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "width",
) -> BrierDecomposition:
    """Reliability, resolution and uncertainty of the top-label Brier score (Murphy 1973).

    The parts add up to `mean (confidence - correct)^2`, the two-class score in [0, 1] of the
    event that the prediction is correct; not to the multi-class `brier_score`.

    Raises:
      ConfigError: as `bin_sums`.
      DataError: as `bin_sums`.
    """
    sums = binned.bin_sums(confidence, correct, num_bins=num_bins, binning=binning)
    reliability, resolution, uncertainty = map(float, brier_parts_of_sums(sums))
    score = float(np.mean((confidence.astype(np.float64) - correct) ** 2))
    residual = score - (reliability - resolution + uncertainty)
    return BrierDecomposition(reliability, resolution, uncertainty, residual)


@inputs.takes_lists
def batch_averaged_calibration_error(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    batch_size: int = 512,
    num_bins: int = 10,
) -> float:
    """Mean of the equal-width errors of consecutive batches, in [0, 1]: no measure of a model.

    ONLY to compare with the numbers published for CaRot and FLYP, whose code averages the ECE
    (10 bins) of the batches of an unshuffled split, each weighted by its size. A perfectly
    calibrated model does not pass: it gets 0.03 to 0.05 at 512 examples a batch, 0.09 to 0.12
    at 64. An order by class adds to it. Theirs opens a bin of its own for confidence 1.

    Raises:
      ConfigError: if `batch_size` or `num_bins` is below 1.
      DataError: as `bin_sums`.
    """
    if batch_size < 1:
        raise errors.ConfigError(
            f"batch_size: got {batch_size}, expected at least 1. The papers' code uses 512."
        )
    binned.check_binning(num_bins)
    binned.check_confidence(confidence, correct)
    batch = np.arange(len(confidence)) // batch_size
    bins = batch * num_bins + binned.equal_width(confidence, num_bins=num_bins)
    return float(np.abs(np.bincount(bins, weights=confidence - correct)).sum() / len(confidence))


@inputs.takes_lists
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
    first_bin = np.arange(num_classes) * num_bins
    excess = np.zeros(num_classes * num_bins)
    for rows in numerics.row_blocks(num_examples, num_classes):
        block = probs[rows].astype(np.float64)
        bins = binned.equal_width(block, num_bins=num_bins) + first_bin
        # n_b |frequency - mean p| is |sum (p - hit)|: the counts cancel.
        block[np.arange(len(block)), labels[rows]] -= 1
        excess += np.bincount(bins.ravel(), weights=block.ravel(), minlength=excess.size)
    return float(np.abs(excess).sum() / (num_examples * num_classes))


def _check_norm(norm: str) -> None:
    if norm not in ("l1", "l2", "max"):
        raise errors.ConfigError(
            f"norm: got {norm!r}, expected 'l1', 'l2' or 'max'. Use 'l1' for the usual ECE."
        )
