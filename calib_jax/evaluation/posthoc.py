"""Calibrators and conformal sets, fitted on one split and tried on those that are reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Real, UInt64

from calib_jax.calibrators.calibrator import Calibrator, FittedCalibrator
from calib_jax.calibrators.conformal import (
    Adaptive,
    LeastAmbiguous,
    Score,
    SplitConformal,
    set_metrics,
)
from calib_jax.core.errors import DataError
from calib_jax.core.numerics import row_blocks
from calib_jax.core.restrict import relabel, restrict
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.shifts import NUM_BINS

VALIDATION = "validation"
"""What records call the split that calibrators are fitted on."""

TEMPERATURE = "temperature"
"""The calibrator whose error the summary has."""

SET_SCORES: dict[str, Score] = {
    "thr": LeastAmbiguous(),
    "aps": Adaptive(),
    "raps": Adaptive(penalty=0.01, free_ranks=5),
}
"""The scores of the conformal sets; RAPS as its authors set it for ImageNet, from memory."""

_METRICS = ("accuracy", "nll", "brier", "smooth_ece", "classwise_ece", "mean_confidence")


@runtime_checkable
class _OfLogits(Protocol):
    """A fitted calibrator whose probabilities are the softmax of what it makes of logits."""

    def logits(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]: ...


def calibrated(
    calibrators: Mapping[str, Calibrator],
    held_out: Labelled,
    reported: Mapping[str, Labelled],
    *,
    fitted_on: str,
    num_bins: int = NUM_BINS,
) -> dict[str, dict[str, Any]]:
    """Of each calibrator what it was fitted on, its scalar parameters, and metrics of each split.

    It is fitted to all classes of the model and applied to them; then a data set of fewer classes
    restricts what comes out. The split that it was fitted on has no metrics: they would flatter.

    Args:
        calibrators: By name.
        held_out: What they are fitted on.
        reported: The splits that they are tried on.
        fitted_on: The former's name.
        num_bins: Of the ECE.

    Raises:
        ConfigError: A setting of a calibrator out of range.
        DataError: The held-out split has too few examples for one.
    """
    keys = (*_METRICS, f"ece_{num_bins}")
    logits, record = _logits(held_out), {}
    for name, calibrator in calibrators.items():
        fitted = calibrator.fit(logits, held_out.labels)
        metrics = {}
        for split_name, split in reported.items():
            after = apply(fitted, split)
            values = after.metrics(after.outcomes(num_bins=num_bins), num_bins=num_bins)
            metrics[split_name] = {key: values[key] for key in keys}
        record[name] = {
            "fitted_on": fitted_on,
            "parameters": _scalars(fitted),
            "metrics": metrics,
        }
    return record


def apply(fitted: FittedCalibrator, split: Labelled) -> Labelled:
    """The split with calibrated scores in float64.

    Logits where the calibrator has them, whose likelihoods never underflow; else probabilities.
    """
    logits = _logits(split)
    scores = np.empty(logits.shape)
    keeps_logits = isinstance(fitted, _OfLogits)
    for rows in row_blocks(*logits.shape):
        block = logits[rows]
        scores[rows] = (
            fitted.logits(block) if isinstance(fitted, _OfLogits) else fitted.probs(block)
        )
    return dataclasses.replace(split, scores=scores, kind="logits" if keeps_logits else "probs")


def conformal(alpha: float, held_out: Labelled, reported: Mapping[str, Labelled]) -> dict[str, Any]:
    """Coverage and mean size on each split of the sets of each score, beside `alpha`.

    Of a data set of fewer classes, a set holds those that one of its classes lies in. Where several
    answers are right, the sets are to hold the prediction, if it is one of them.

    Raises:
        ConfigError: An alpha outside (0, 1).
        DataError: The held-out split has fewer than `(1 - alpha) / alpha` examples.
    """
    record: dict[str, Any] = {"alpha": alpha}
    for name, score in SET_SCORES.items():
        fitted = SplitConformal(alpha=alpha, score=score).fit(_logits(held_out), held_out.labels)
        record[name] = {}
        for split_name, split in reported.items():
            logits, labels = _logits(split), split.labels
            sets = fitted.sets(logits)
            if split.answers is not None:
                labels = relabel(logits, labels, split.answers)
            if split.groups is not None:
                labels = split.groups[labels]
                sets = restrict(sets.astype(np.float32), split.groups) > 0
            found = set_metrics(sets, labels)
            record[name][split_name] = {"coverage": found.coverage, "mean_size": found.mean_size}
    return record


def check_disjoint(
    held_out: Real[np.ndarray, "n c"], reported: Real[np.ndarray, "k c"], *, names: tuple[str, str]
) -> None:
    """Nothing, if no row of one array is a row of the other.

    In float32: a copy of another precision is a copy. A row that one of them holds twice, such as
    a prediction of certainty, tells no example from another and is passed over.

    Raises:
        DataError: Naming the first pair.
    """
    hashes, rows = _single_rows(held_out)
    other_hashes, other_rows = _single_rows(reported)
    _, *at = np.intersect1d(hashes, other_hashes, assume_unique=True, return_indices=True)
    pairs = zip(rows[at[0]].tolist(), other_rows[at[1]].tolist(), strict=True)
    for row, other in sorted(pairs):
        pair = (held_out[row].astype(np.float32), reported[other].astype(np.float32))
        if np.array_equal(*pair):
            raise DataError(
                f"{names[0]}: got in row [{row}] what {names[1]} has in row [{other}], expected "
                "other examples. Fit calibrators to examples that are reported nowhere."
            )


def _single_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes that only one row has, in order, and the rows."""
    weights = np.random.default_rng(0).integers(1 << 64, size=values.shape[1], dtype=np.uint64)
    hashes: UInt64[np.ndarray, " n"] = np.empty(len(values), np.uint64)
    for rows in row_blocks(*values.shape):
        rounded = values[rows].astype(np.float32) + np.float32(0)  # 0.0 for -0.0
        words = rounded.astype(np.float64).view(np.uint64)
        hashes[rows] = ((words ^ (words >> np.uint64(32))) * (weights | np.uint64(1))).sum(axis=1)
    found, first, count = np.unique(hashes, return_index=True, return_counts=True)
    return found[count == 1], first[count == 1]


def _logits(split: Labelled) -> np.ndarray:
    """The logits of a split, of probabilities their logarithms; 0 counts as the least float32."""
    if split.kind == "logits":
        return split.scores if split.scores.dtype.kind == "f" else split.scores.astype(np.float64)
    least = np.finfo(np.float32).tiny
    dtype = np.result_type(split.scores, np.float32)
    return np.log(np.maximum(split.scores, least, dtype=dtype))


def _scalars(fitted: FittedCalibrator) -> dict[str, float]:
    """The fields of a fitted calibrator that are numbers."""
    return {name: value for name, value in vars(fitted).items() if isinstance(value, int | float)}
