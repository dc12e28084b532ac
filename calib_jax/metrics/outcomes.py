"""What one pass over the logits of a split leaves for every metric: vectors, no matrix.

Beyond the logits, which may lie in a memory-mapped file, the pass holds 36 bytes an example, one
sum per class and bin, and one block of rows per thread. Blocks are added up in their order: the
number of threads changes no digit.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer, Real

from calib_jax.core import inputs, numerics
from calib_jax.metrics.bins import equal_width

Kind = Literal["logits", "probs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What became of every example of a split, in its order.

    Attributes:
      labels: the true class.
      predicted: the class of the largest logit (or probability), the lower index in a tie.
      confidence: its probability.
      nll: `-log p[label]` in nats.
      brier: `sum_k (p_k - [k = label])^2`, in [0, 2].
      rank: classes ahead of the label, a tie going to the lower index: top-k is `rank < k`.
      classwise_excess: `sum (p_k - [k = label])` over the examples whose `p_k` lies in a bin,
        for every class k and equal-width bin of [0, 1].
    """

    labels: Int32[np.ndarray, " n"]
    predicted: Int32[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    nll: Float[np.ndarray, " n"]
    brier: Float[np.ndarray, " n"]
    rank: Int32[np.ndarray, " n"]
    classwise_excess: Float[np.ndarray, "c m"]

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Where the prediction is the label."""
        return self.predicted == self.labels

    @property
    def num_classes(self) -> int:
        """Columns of the logits, whether or not an example has the class."""
        return len(self.classwise_excess)

    @property
    def classwise_calibration_error(self) -> float:
        """Mean over classes of the equal-width calibration error of each class probability.

        `calibration.classwise_calibration_error` over the bins of the pass, in [0, 1]. An empty
        class counts with its mean probability.
        """
        return float(np.abs(self.classwise_excess).sum() / (len(self.labels) * self.num_classes))


@inputs.takes_lists
def of_logits(
    logits: Real[np.ndarray, "n c"], labels: Integer[np.ndarray, " n"], *, num_bins: int = 15
) -> Outcomes:
    """Outcomes under `softmax(logits)`, in float64; finite for finite logits of any span.

    Args:
      logits: of any precision, in memory or memory-mapped.
      labels: the true classes.
      num_bins: equal-width bins of the class-wise calibration error.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: for an empty split, mismatched shapes, NaN, infinity or a label outside [0, c).
    """
    return _one_pass(logits, labels, kind="logits", num_bins=num_bins)


@inputs.takes_lists
def of_probs(
    probs: Real[np.ndarray, "n c"], labels: Integer[np.ndarray, " n"], *, num_bins: int = 15
) -> Outcomes:
    """Outcomes under probabilities as they are; the NLL of a label of probability 0 is infinite.

    Args:
      probs: rows that sum to 1, of any precision, in memory or memory-mapped.
      labels: the true classes.
      num_bins: equal-width bins of the class-wise calibration error.

    Raises:
      ConfigError: if `num_bins` is below 1.
      DataError: as `of_logits`, and for a negative entry or a row that does not sum to 1.
    """
    return _one_pass(probs, labels, kind="probs", num_bins=num_bins)


def _one_pass(values: np.ndarray, labels: np.ndarray, *, kind: Kind, num_bins: int) -> Outcomes:
    inputs.check_num_bins(num_bins)
    inputs.check_shapes(values, labels, name=kind)
    num_rows, num_classes = values.shape
    inputs.check_labels(labels, num_classes=num_classes)
    result = Outcomes(
        labels=labels.astype(np.int32),
        predicted=np.empty(num_rows, np.int32),
        confidence=np.empty(num_rows),
        nll=np.empty(num_rows),
        brier=np.empty(num_rows),
        rank=np.empty(num_rows, np.int32),
        classwise_excess=np.zeros((num_classes, num_bins)),
    )
    fill = functools.partial(_fill, result, np.asarray(values), kind=kind)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for excess in pool.map(fill, numerics.row_blocks(num_rows, num_classes)):
            np.add(result.classwise_excess, excess, out=result.classwise_excess)
    return result


def _fill(result: Outcomes, values: np.ndarray, rows: slice, *, kind: Kind) -> np.ndarray:
    """The block's part of the class-wise sums; its rows of the vectors are written."""
    block, labels = values[rows], result.labels[rows]
    if block.itemsize < 4:  # NumPy is slow in half precision
        block = block.astype(np.float32)
    each = np.arange(len(block))
    predicted = block.argmax(axis=1)  # of the first NaN, if there is one
    highest, own = block[each, predicted], block[each, labels]
    lowest = block.min()
    if not np.isfinite(highest).all() or not np.isfinite(lowest):
        inputs.check_finite(values, name=kind)
    ahead = block > own[:, None]
    ahead |= (block == own[:, None]) & (np.arange(block.shape[1]) < labels[:, None])
    if kind == "logits":
        probs = np.subtract(block, highest[:, None], dtype=np.float64, order="C")
        np.exp(probs, out=probs)
        total = probs.sum(axis=1)
        probs /= total[:, None]
        nll = np.subtract(highest, own, dtype=np.float64) + np.log(total)
    else:
        probs = block.astype(np.float64, order="C")
        tolerance = inputs.sum_tolerance(values.dtype)
        if lowest < 0 or (np.abs(probs.sum(axis=1) - 1) > tolerance).any():
            inputs.check_probs(values, result.labels)
        with np.errstate(divide="ignore"):
            nll = -np.log(probs[each, labels])
    result.predicted[rows] = predicted
    result.confidence[rows] = probs[each, predicted]
    result.nll[rows] = nll
    result.rank[rows] = np.count_nonzero(ahead, axis=1)
    result.brier[rows], excess = _residuals(
        probs, labels, num_bins=result.classwise_excess.shape[1]
    )
    return excess


def _residuals(
    probs: np.ndarray, labels: np.ndarray, *, num_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squares and class-wise sums of `p - hit`; `probs`, in C order, is overwritten."""
    num_classes, flat = probs.shape[1], probs.ravel()
    # At most `num_bins` probabilities of a row lie above the first bin: only these are searched.
    above = np.flatnonzero(flat >= 1 / num_bins)
    bins = above % num_classes * num_bins + equal_width(flat[above], num_bins=num_bins)
    probs[np.arange(len(probs)), labels] -= 1
    brier = np.vecdot(probs, probs)
    sums = np.bincount(bins, flat[above], minlength=num_classes * num_bins)
    excess = sums.astype(np.float64).reshape(num_classes, num_bins)  # of integers, if of nothing
    flat[above] = 0
    excess[:, 0] += probs.sum(axis=0)
    return brier, excess
