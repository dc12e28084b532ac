"""The calibration suite for the predictions of any framework."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from calib_jax.calibrators.checks import check_settings
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core import inputs, settings
from calib_jax.core.errors import ConfigError, DataError, nearest
from calib_jax.evaluation import intervals
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.overlap import check_disjoint
from calib_jax.evaluation.posthoc import TEMPERATURE, VALIDATION, AnyCalibrator, check_needs
from calib_jax.evaluation.record import Roles, check_trends, record_of
from calib_jax.evaluation.split_metrics import NUM_BINS
from calib_jax.metrics.outcomes import Kind, Outcomes
from calib_jax.metrics.robustness import Trend

Pair = tuple[npt.ArrayLike, npt.ArrayLike]
"""Logits (or probabilities) [n c] and labels [n] of one split."""


def evaluate_predictions(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    name: str = "reported",
    probs: bool | None = None,
    calibration: Pair | None = None,
    shifts: Mapping[str, Pair] | None = None,
    class_names: Sequence[str] | None = None,
    calibrators: Mapping[str, AnyCalibrator] | None = None,
    zero_shot: Mapping[str, npt.ArrayLike] | None = None,
    trends: Mapping[str, Trend] | None = None,
    num_bins: int = NUM_BINS,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """The record of a model: metrics, intervals, reliability, curves, mistakes, calibration.

    JSON values, as of a run in `results.json` (docs/results.md); None for what is infinite or
    undefined; `validation` is the calibration split. In float64, of whole splits.

    Args:
        logits: A row [c] an example: NumPy, memory-mapped or JAX arrays, lists, or torch tensors
            that NumPy can read.
        labels: The true classes, in [0, c).
        name: What the record calls the split.
        probs: Whether all logits are probabilities; calibrators get their logarithms. None: they
            are not, and what looks so is refused.
        calibration: The split that calibrators are fitted on.
        shifts: Further splits of the same classes, by name; summarised by mean and worst.
        class_names: For the mistakes; None: numbers.
        calibrators: By name; None: temperature scaling, if there is a calibration split. Those that
            are fitted already (`DistanceAwareScale`) are applied as they are.
        zero_shot: For calibrators that need them (`SampleAdaptiveScaling`): the pre-trained model's
            logits (or probabilities) of every reported split, by name.
        trends: For shifts, by name, the line of baseline models: effective robustness is beyond it.
        num_bins: Of the calibration errors; their names carry it. With fewer examples than bins
            they are defined, and say more of the bins than of the model.
        num_resamples: Of the bootstrap; 0: none. 1,000 of 2,000 examples x 10 classes take 0.35 s.
        level: Of the intervals.

    Raises:
        ConfigError: Calibrators without what they need, or a name or setting that is wrong.
        DataError: Names the array and the first bad index. Values: NaN, infinity, a label outside
            [0, c), rows that do not sum to 1. Shapes: wrong ones, no example, other numbers of
            classes. Or a calibration split shares rows with a reported one.
    """
    kind: Kind = "probs" if probs else "logits"
    _check_types(calibrators, probs, num_bins=num_bins, num_resamples=num_resamples, level=level)
    check_settings(calibrators or {}, where="calibrators")
    _check_pairs(calibration, shifts)
    _check_trends(trends, shifts)
    splits = _read(name, (logits, labels), calibration, shifts or {}, kind=kind)
    splits = _with_zero_shot(splits, zero_shot or {})
    if probs is None:
        _check_not_probs(splits, name)
    chosen = _calibrators(calibrators, splits)
    names = _names(class_names, num_classes=next(iter(splits.values())).scores.shape[1])
    outcomes = _outcomes(splits, num_bins=num_bins)
    roles = Roles(
        id_name=name,
        shifts=tuple(shifts or {}),
        calibrators=chosen,
        trends=trends or {},
        num_bins=num_bins,
        num_resamples=num_resamples,
        level=level,
    )
    return record_of(intervals.seeded(splits, outcomes), outcomes, names, roles)


def _check_trends(trends: Any, shifts: Any) -> None:
    """Raises a ConfigError for a line that is none, or of no shift."""
    settings.check_types(trends or {}, dict[str, Trend], "trends")
    check_trends(trends or {}, shifts or {}, where="trends")


def _check_types(calibrators: Any, probs: Any, **numbers: Any) -> None:
    """Raises a ConfigError for a number, a switch or a calibrator that is none."""
    settings.check_types(probs, bool | None, "probs")
    settings.check_types(calibrators or {}, dict[str, AnyCalibrator], "calibrators")
    for name, value in numbers.items():
        settings.check_types(value, float if name == "level" else int, name)


def _check_not_probs(splits: Mapping[str, Labelled], id_name: str) -> None:
    """Raises a DataError for logits of any split that look like probabilities."""
    for name, split in splits.items():
        with _located(_place(name, id_name)):
            inputs.check_not_probs(split.scores, name=split.kind)
        if split.zero_shot is not None:
            inputs.check_not_probs(split.zero_shot, name=f"zero_shot.{name}")


def _check_pairs(calibration: Any, shifts: Any) -> None:
    """Raises a ConfigError for what is no `Pair`, or none by name."""
    if not isinstance(shifts, Mapping | None):
        raise ConfigError(
            f"shifts: got {type(shifts).__name__}, expected pairs by name. Pass "
            "shifts={'blurred': (logits, labels)}."
        )
    pairs = {} if calibration is None else {"calibration": calibration}
    pairs |= {f"shifts.{name}": pair for name, pair in (shifts or {}).items()}
    for name, pair in pairs.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigError(
                f"{name}: got {type(pair).__name__}, expected a pair. Pass (logits, labels)."
            )


def _outcomes(splits: Mapping[str, Labelled], *, num_bins: int) -> dict[str, Outcomes]:
    """What comes of each split, of which the calibration split is no part of another."""
    id_name = next(iter(splits))
    inputs.check_num_bins(num_bins)
    outcomes = {}
    for name, split in splits.items():
        with _located(_place(name, id_name)):
            outcomes[name] = split.outcomes(num_bins=num_bins)
    if VALIDATION in splits:
        reported = {
            f"{_place(name, id_name)}{split.kind}": split.scores
            for name, split in splits.items()
            if name != VALIDATION
        }
        held_out = splits[VALIDATION]
        check_disjoint(held_out.scores, reported, name=f"calibration.{held_out.kind}")
    return outcomes


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
        argument = "name" if id_name == VALIDATION else "shifts"
        raise ConfigError(f"{argument}: {taken[-1]!r} is taken. Rename the split.")
    held_out = {} if calibration is None else {VALIDATION: calibration}
    splits: dict[str, Labelled] = {}
    for name, pair in ({id_name: reported} | held_out | dict(shifts)).items():
        with _located(_place(name, id_name)):
            scores, labels = (
                inputs.as_array(pair[0], name=kind),
                inputs.as_array(pair[1], name="labels"),
            )
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


def _with_zero_shot(
    splits: Mapping[str, Labelled], zero_shot: Mapping[str, npt.ArrayLike]
) -> dict[str, Labelled]:
    """The splits with what the pre-trained model says of them."""
    found = dict(splits)
    for name, values in zero_shot.items():
        if name not in splits:
            raise ConfigError(
                f"zero_shot: there is no split {name!r}.{nearest(name, splits)} Correct the name."
            )
        array, expected = (
            inputs.as_array(values, name=f"zero_shot.{name}"),
            splits[name].scores.shape,
        )
        inputs.check_unlabelled(array, name=f"zero_shot.{name}")
        if array.shape != expected:
            raise DataError(
                f"zero_shot.{name}: got shape {array.shape}, expected {expected} as of the split. "
                "Predict the same examples with the same classes."
            )
        found[name] = dataclasses.replace(splits[name], zero_shot=array)
    return found


def _calibrators(
    calibrators: Mapping[str, AnyCalibrator] | None, splits: Mapping[str, Labelled]
) -> Mapping[str, AnyCalibrator]:
    """What is tried on the splits, each with all that it needs."""
    if calibrators is None:
        return {TEMPERATURE: TemperatureScaling()} if VALIDATION in splits else {}
    check_needs(calibrators, splits)
    return calibrators


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
