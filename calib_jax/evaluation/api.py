"""The calibration suite for the predictions of any framework."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from calib_jax.calibrators.calibrator import Calibrator
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core import inputs
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.evaluation.labelled import Labelled, mistakes, records
from calib_jax.evaluation.posthoc import TEMPERATURE, VALIDATION, calibrated, check_disjoint
from calib_jax.evaluation.shifts import NUM_BINS, summary
from calib_jax.metrics.calibration import check_num_examples
from calib_jax.metrics.outcomes import Kind

Pair = tuple[npt.ArrayLike, npt.ArrayLike]
"""Logits (or probabilities) [n c] and labels [n] of one split."""


def evaluate_predictions(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    name: str = "reported",
    probs: bool = False,
    calibration: Pair | None = None,
    shifts: Mapping[str, Pair] | None = None,
    class_names: Sequence[str] | None = None,
    calibrators: Mapping[str, Calibrator] | None = None,
    num_bins: int = NUM_BINS,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """The record of a model: metrics, intervals, reliability, curves, mistakes, calibration.

    JSON values, as of a run in `results.json` (docs/results.md); None for what is infinite or
    undefined; `validation` is the calibration split. In float64, of whole splits.

    Args:
        logits: A row [c] an example: NumPy, memory-mapped, JAX or torch (CPU) arrays, or lists.
        labels: The true classes, in [0, c).
        name: What the record calls the split.
        probs: Whether all logits are probabilities; calibrators get their logarithms.
        calibration: The split that calibrators are fitted on.
        shifts: Further splits of the same classes, by name; summarised by mean and worst.
        class_names: For the mistakes; None: numbers.
        calibrators: By name; None: temperature scaling.
        num_bins: Of the calibration errors; their names carry it.
        num_resamples: Of the bootstrap; 0: no intervals. 1,000 take 2.2 s for 2,000 examples.
        level: Of the intervals.

    Raises:
        ConfigError: Calibrators without a calibration split, or a name or setting that is wrong.
        DataError: NaN, infinity, a label outside [0, c), a wrong shape, no examples or fewer than
            bins, rows that do not sum to 1, other numbers of classes, or a calibration split that
            shares rows with a reported one; names the array and the first bad index.
    """
    kind: Kind = "probs" if probs else "logits"
    splits = _read(name, (logits, labels), calibration, shifts or {}, kind=kind)
    record = _raw(splits, class_names, num_bins=num_bins, num_resamples=num_resamples, level=level)
    held_out = splits.pop(VALIDATION, None)
    if calibrators and held_out is None:
        raise ConfigError(
            f"calibrators: got {', '.join(calibrators)}, but no calibration split to fit them to. "
            "Pass calibration=(logits, labels)."
        )
    if held_out is not None:
        chosen = {TEMPERATURE: TemperatureScaling()} if calibrators is None else calibrators
        found = calibrated(chosen, held_out, splits, fitted_on=VALIDATION, num_bins=num_bins)
        record["calibrated"] = found
    record["summary"] = summary(
        record["metrics"],
        {},
        id_name=name,
        shifts=tuple(shifts or ()),
        calibrated=record.get("calibrated", {}).get(TEMPERATURE, {}).get("metrics"),
        num_bins=num_bins,
    )
    return record


def _raw(
    splits: Mapping[str, Labelled],
    class_names: Sequence[str] | None,
    *,
    num_bins: int,
    num_resamples: int,
    level: float,
) -> dict[str, Any]:
    """What is computed from the scores as they are."""
    id_name = next(iter(splits))
    names = _names(class_names, num_classes=splits[id_name].scores.shape[1])
    inputs.check_num_bins(num_bins)
    outcomes = {}
    for name, split in splits.items():
        with _located(_place(name, id_name)):
            check_num_examples(len(split.labels), num_bins=num_bins)
            outcomes[name] = split.outcomes(num_bins=num_bins)
    if VALIDATION in splits:
        held_out = splits[VALIDATION]
        for name, split in splits.items():
            if name != VALIDATION:
                arrays = (f"calibration.{split.kind}", f"{_place(name, id_name)}{split.kind}")
                check_disjoint(held_out.scores, split.scores, names=arrays)
    record = records(splits, outcomes, num_bins=num_bins, num_resamples=num_resamples, level=level)
    record["mistakes"] = {
        name: mistakes(one, names) for name, one in outcomes.items() if name != VALIDATION
    }
    return record


def _read(
    id_name: str,
    reported: Pair,
    calibration: Pair | None,
    shifts: Mapping[str, Pair],
    *,
    kind: Kind,
) -> dict[str, Labelled]:
    """The splits as arrays, the reported one first; what is memory-mapped stays so."""
    taken = [name for name in (id_name, VALIDATION) if name in shifts or id_name == VALIDATION]
    if taken:
        raise ConfigError(f"shifts: the name {taken[-1]!r} is taken. Rename the split.")
    held_out = {} if calibration is None else {VALIDATION: calibration}
    splits: dict[str, Labelled] = {}
    for name, pair in ({id_name: reported} | held_out | dict(shifts)).items():
        with _located(_place(name, id_name)):
            scores, labels = _as_array(pair[0], name=kind), _as_array(pair[1], name="labels")
            inputs.check_shapes(scores, labels, name=kind)
            inputs.check_labels(labels, num_classes=scores.shape[1])
            expected = splits[id_name].scores.shape[1] if splits else scores.shape[1]
            if scores.shape[1] != expected:
                raise DataError(
                    f"{kind}: got {scores.shape[1]} classes, expected {expected} as in those that "
                    "are reported. Give all splits the columns of one model."
                )
            splits[name] = Labelled(scores=scores, labels=labels, kind=kind)
    return splits


def _as_array(values: npt.ArrayLike, *, name: str) -> np.ndarray:
    if np.ma.is_masked(values):
        raise DataError(
            f"{name}: got masked entries, expected a number in each. Drop the masked examples."
        )
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(
            f"{name}: got rows of different lengths, expected an array. Pass rows of one length."
        ) from None


def _names(class_names: Sequence[str] | None, *, num_classes: int) -> tuple[str, ...]:
    if class_names is None:
        return tuple(map(str, range(num_classes)))
    if len(class_names) != num_classes:
        raise ConfigError(
            f"class_names: got {len(class_names)}, expected {num_classes}, one for each column. "
            "Correct them."
        )
    return tuple(map(str, class_names))


def _place(name: str, id_name: str) -> str:
    if name == id_name:
        return ""
    return "calibration." if name == VALIDATION else f"shifts.{name}."


@contextlib.contextmanager
def _located(place: str) -> Iterator[None]:
    """Errors about the arrays of a split begin with its place among the arguments."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}{error}") from None
