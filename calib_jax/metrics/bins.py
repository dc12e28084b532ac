"""Bins of the confidences of a split, and what falls into them.

Equal-width bins are `[lo, hi)` with a confidence of exactly 1 in the last one, compared in
float64. torchmetrics opens a bin of its own for confidence 1; all else agrees with it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.core import errors, inputs

Binning = Literal["width", "mass"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinSums:
    """What a binned calibration error needs, one entry per bin; leading axes are resamples.

    Attributes:
      count: examples in the bin.
      confidence: the sum of their confidences.
      correct: the number of them that are correct.
    """

    count: Float[np.ndarray, "*r m"]
    confidence: Float[np.ndarray, "*r m"]
    correct: Float[np.ndarray, "*r m"]


def bin_sums(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    num_bins: int,
    binning: Binning = "width",
) -> BinSums:
    """Counts, summed confidence and number correct in `num_bins` bins of the confidences.

    `width`: equal-width bins of [0, 1]. `mass`: runs of the sorted confidences that differ in
    size by at most one, the larger first (with fewer examples than bins the last are empty).
    Examples of one confidence share their mean accuracy, so the order of the split does not
    matter where the border of a bin cuts a tie.

    Raises:
      ConfigError: if `num_bins` is below 1 or `binning` is neither of the two.
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    check_binning(num_bins, binning=binning)
    check_confidence(confidence, correct)
    hits: np.ndarray = correct
    if binning == "width":
        bins = equal_width(confidence, num_bins=num_bins)
    else:
        values, tie, size = np.unique(confidence, return_inverse=True, return_counts=True)
        bins = _equal_mass(len(confidence), num_bins=num_bins)
        confidence = np.repeat(values, size)
        hits = np.repeat(np.bincount(tie, weights=correct) / size, size)
    return BinSums(
        count=np.bincount(bins, minlength=num_bins).astype(np.float64),
        confidence=np.bincount(bins, weights=confidence, minlength=num_bins),
        correct=np.bincount(bins, weights=hits, minlength=num_bins),
    )


def memberships(
    confidence: Float[np.ndarray, " n"], *, num_bins: int, binning: Binning = "width"
) -> Float[np.ndarray, "n m"]:
    """The share of every example in every bin; rows sum to 1.

    Times `[1, confidence, correct]` it gives `bin_sums`: examples of one confidence that the
    border of an equal-mass bin cuts lie in both bins in proportion.

    Raises:
      ConfigError: as `bin_sums`.
    """
    check_binning(num_bins, binning=binning)
    if binning == "width":
        return np.eye(num_bins)[equal_width(confidence, num_bins=num_bins)]
    _, tie, size = np.unique(confidence, return_inverse=True, return_counts=True)
    cells = np.repeat(np.arange(len(size)) * num_bins, size)
    cells += _equal_mass(len(confidence), num_bins=num_bins)
    counts = np.bincount(cells, minlength=len(size) * num_bins).reshape(-1, num_bins)
    return (counts / size[:, None])[tie]


def equal_width(values: Float[np.ndarray, "*n"], *, num_bins: int) -> Int[np.ndarray, "*n"]:
    """Numbers of the bins of [0, 1], from 0; rounding above 1 stays in the last."""
    bins = np.searchsorted(equal_width_edges(num_bins), values, side="right") - 1
    return np.minimum(bins, num_bins - 1)


def equal_width_edges(num_bins: int) -> Float[np.ndarray, " e"]:
    """The edges k / m, from 0 to 1: m + 1 of them, each the nearest float64.

    `np.linspace` gives 0.30000000000000004 for 3 / 10, so that 0.3 would lie below its own edge.
    """
    return np.arange(num_bins + 1) / num_bins


def check_confidence(confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> None:
    """Raises a DataError unless every example has a confidence in [0, 1], but for rounding.

    Raises:
      DataError: for an empty split, mismatched shapes or a confidence outside [0, 1].
    """
    inputs.check_same_length(confidence, correct, names=("confidence", "correct"))
    inside = (confidence >= 0) & (confidence <= 1 + inputs.SUM_TOLERANCE)
    if not inside.all():
        row = int(np.argmin(inside))
        raise errors.DataError(
            f"confidence: got {confidence[row]} at [{row}], expected a probability in [0, 1]. "
            "Apply softmax to logits first."
        )


def check_binning(num_bins: int, *, binning: str = "width") -> None:
    """Raises a ConfigError unless there is at least one bin, of a known kind.

    Raises:
      ConfigError: naming the value.
    """
    inputs.check_num_bins(num_bins)
    if binning not in ("width", "mass"):
        raise errors.ConfigError(
            f"binning: got {binning!r}, expected 'width' or 'mass'. Use 'width' for the usual ECE."
        )


def _equal_mass(num_examples: int, *, num_bins: int) -> np.ndarray:
    """Bin numbers of sorted examples: sizes differ by at most one, the larger first."""
    size, num_larger = divmod(num_examples, num_bins)
    return np.repeat(np.arange(num_bins), size + (np.arange(num_bins) < num_larger))
