"""Calibrators and conformal sets, fitted on one split and tried on those that are reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float

from calib_jax.calibrators.calibrator import (
    Calibrator,
    FittedCalibrator,
    NotingCalibrator,
    PairedCalibrator,
)
from calib_jax.calibrators.conformal import (
    Adaptive,
    LeastAmbiguous,
    Nonconformity,
    SplitConformal,
    set_metrics,
)
from calib_jax.core.errors import ConfigError
from calib_jax.core.numerics import row_blocks
from calib_jax.evaluation import intervals
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.restrict import relabel, restrict
from calib_jax.evaluation.split_metrics import NUM_BINS
from calib_jax.metrics import bootstrap

VALIDATION = "validation"
"""What records call the split that calibrators are fitted on."""

TEMPERATURE = "temperature"
"""The calibrator whose error the summary has."""

SET_SCORES: dict[str, Nonconformity] = {
    "thr": LeastAmbiguous(),
    "aps": Adaptive(),
    "raps": Adaptive(penalty=0.01, free_ranks=5),
}
"""The scores of the conformal sets; RAPS as its authors set it for ImageNet, from memory."""

AnyCalibrator = Calibrator | FittedCalibrator | PairedCalibrator
"""What is fitted here, what was fitted elsewhere, and what needs no fit."""

_METRICS = ("accuracy", "nll", "brier", "smooth_ece", "classwise_ece", "mean_confidence")


@runtime_checkable
class _OfLogits(Protocol):
    """A fitted calibrator whose probabilities are the softmax of what it makes of logits."""

    def logits(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]: ...


def calibrated(
    calibrators: Mapping[str, AnyCalibrator],
    splits: Mapping[str, Labelled],
    *,
    shifts: Sequence[str] = (),
    num_bins: int = NUM_BINS,
    num_resamples: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """Of each calibrator what it was fitted on, its scalar parameters, and metrics of each split.

    Also `notes`, where a fit rests on less than it seems: a line for each reason. With resamples
    `intervals` of the metrics, the fit held fixed, and over the shifts `summary_intervals`.
    It is fitted to all classes of the model and applied to them; then a data set of fewer classes
    restricts what comes out. The split that it was fitted on has no metrics: they would flatter.

    Args:
        calibrators: By name; what is not to be fitted is applied as it is.
        splits: `validation`, which the others are fitted on, and those that they are tried on.
        shifts: The splits whose mean and worst are summarised.
        num_bins: Of the ECE.
        num_resamples: Of the bootstrap; 0: no intervals.
        level: Of the intervals.

    Raises:
        ConfigError: A setting of a calibrator out of range, or as `check_needs`.
        DataError: The held-out split has too few examples for one.
    """
    keys = (*_METRICS, f"ece_{num_bins}")
    check_needs(calibrators, splits)
    reported = {name: split for name, split in splits.items() if name != VALIDATION}
    record: dict[str, dict[str, Any]] = {}
    for name, calibrator in calibrators.items():
        fitted = _fitted(calibrator, splits)
        metrics, drawn = {}, {}
        for split_name, split in reported.items():
            after = apply(fitted, split)
            outcomes = after.outcomes(num_bins=num_bins)
            values = after.metrics(outcomes, num_bins=num_bins)
            metrics[split_name] = {key: values[key] for key in keys}
            if num_resamples:
                drawn[split_name] = intervals.resampled(
                    after, outcomes, keys=keys, num_bins=num_bins, num_resamples=num_resamples
                )
        record[name] = {
            "fitted_on": VALIDATION if isinstance(calibrator, Calibrator) else None,
            "parameters": _scalars(fitted),
            "metrics": metrics,
        }
        if drawn:
            over = intervals.over_shifts(drawn, shifts, num_bins=num_bins)
            record[name] |= intervals.parts(drawn, over, level)
        if isinstance(calibrator, NotingCalibrator):
            notes = calibrator.notes(fitted, splits[VALIDATION].labels)
            record[name] |= {"notes": notes} if notes else {}
    return record


def summary_intervals(record: Mapping[str, Any]) -> dict[str, list[float]]:
    """The interval of the summary's `ood_ece_calibrated`, if the record has it."""
    scaled = record.get("calibrated", {}).get(TEMPERATURE, {})
    over = scaled.get("summary_intervals", {})
    return {"ood_ece_calibrated": over["ood_ece"]} if over else {}


def _fitted(
    calibrator: AnyCalibrator, splits: Mapping[str, Labelled]
) -> FittedCalibrator | PairedCalibrator:
    if not isinstance(calibrator, Calibrator):
        return calibrator
    held_out = splits[VALIDATION]
    return calibrator.fit(_logits(held_out), held_out.labels)


def apply(fitted: FittedCalibrator | PairedCalibrator, split: Labelled) -> Labelled:
    """The split with calibrated scores in float64.

    Logits where the calibrator has them, whose likelihoods never underflow; else probabilities.
    """
    logits, scores = _logits(split), np.empty(split.scores.shape)
    of_rows = _of_rows(fitted, split, logits)
    for rows in row_blocks(*logits.shape):
        scores[rows] = of_rows(rows)
    kept = isinstance(fitted, (_OfLogits, PairedCalibrator))
    return dataclasses.replace(split, scores=scores, kind="logits" if kept else "probs")


def _of_rows(
    fitted: FittedCalibrator | PairedCalibrator, split: Labelled, logits: np.ndarray
) -> Callable[[slice], np.ndarray]:
    """The calibrated scores of some rows."""
    if isinstance(fitted, PairedCalibrator):
        given = cast(np.ndarray, split.zero_shot)  # check_needs has seen it
        zero_shot = _logits(dataclasses.replace(split, scores=given))
        return lambda rows: fitted.scaled(logits[rows], zero_shot[rows])
    if isinstance(fitted, _OfLogits):
        return lambda rows: fitted.logits(logits[rows])
    return lambda rows: fitted.probs(logits[rows])


def conformal(
    alpha: float,
    held_out: Labelled,
    reported: Mapping[str, Labelled],
    *,
    num_resamples: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Coverage and mean size on each split of the sets of each score, beside `alpha`.

    With resamples `intervals` of the two, the thresholds held fixed.
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
            if num_resamples:
                of_sets = {
                    "coverage": bootstrap.mean(sets[np.arange(len(labels)), labels]),
                    "mean_size": bootstrap.mean(sets.sum(axis=1).astype(np.float64)),
                }
                drawn = bootstrap.resampled(of_sets, num_resamples=num_resamples, seed=split.seed)
                record[name][split_name]["intervals"] = intervals.ends(drawn, level)
    return record


def check_needs(calibrators: Mapping[str, AnyCalibrator], splits: Mapping[str, Labelled]) -> None:
    """Refuses calibrators that lack what they need.

    Raises:
        ConfigError: One is to be fitted and there is no validation split, or one needs zero-shot
            scores and a reported split has none.
    """
    for name, calibrator in calibrators.items():
        if isinstance(calibrator, Calibrator) and VALIDATION not in splits:
            raise ConfigError(
                f"calibrators: got {name}, but no calibration split to fit it to. "
                "Pass calibration=(logits, labels)."
            )
        lacking = [k for k, v in splits.items() if k != VALIDATION and v.zero_shot is None]
        if isinstance(calibrator, PairedCalibrator) and lacking:
            raise ConfigError(
                f"calibrators: {name} needs the pre-trained model's scores of {lacking[0]!r}. "
                f"Pass zero_shot={{{lacking[0]!r}: scores}}, and so on."
            )


def _logits(split: Labelled) -> np.ndarray:
    """The logits of a split, of probabilities their logarithms; 0 counts as the least float32."""
    if split.kind == "logits":
        return split.scores if split.scores.dtype.kind == "f" else split.scores.astype(np.float64)
    least = np.finfo(np.float32).tiny
    dtype = np.result_type(split.scores, np.float32)
    return np.log(np.maximum(split.scores, least, dtype=dtype))


def _scalars(fitted: FittedCalibrator | PairedCalibrator) -> dict[str, float]:
    """The fields of a fitted calibrator that are numbers."""
    return {name: value for name, value in vars(fitted).items() if isinstance(value, int | float)}
