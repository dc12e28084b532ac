"""What `results.json` says of one model, from what it says of its splits.

One way from arrays to a record, for models of this library and for predictions of any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.evaluation import intervals
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.posthoc import (
    TEMPERATURE,
    VALIDATION,
    AnyCalibrator,
    calibrated,
    conformal,
    summary_intervals,
)
from calib_jax.evaluation.split_metrics import NUM_BINS, ROBUSTNESS, reliability, summary
from calib_jax.metrics import bootstrap, selective
from calib_jax.metrics.outcomes import Outcomes
from calib_jax.metrics.robustness import Trend, effective_robustness

MAX_CURVE_POINTS = 101
MAX_MISTAKES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
    """Which split is what, and what is computed of them.

    Attributes:
        id_name: The ID split's name.
        shifts: The splits whose mean and worst are summarised.
        near: The OOD sets whose classes are close to the known ones.
        far: The OOD sets that have little to do with them.
        table_score: The OOD score of the table.
        calibrators: By name; fitted on the validation split, where they are to be fitted.
        trends: For shifts, by name, the line of baseline models: their effective robustness.
        conformal_alpha: Share of labels that conformal sets may miss; None: no sets.
        num_bins: Of the calibration errors, whose names carry it, and of the reliability diagrams.
        num_resamples: Of the bootstrap; 0: no intervals.
        level: Of the intervals.
    """

    id_name: str
    shifts: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    table_score: str = ""
    calibrators: Mapping[str, AnyCalibrator] = dataclasses.field(default_factory=dict)
    trends: Mapping[str, Trend] = dataclasses.field(default_factory=dict)
    conformal_alpha: float | None = None
    num_bins: int = NUM_BINS
    num_resamples: int = 0
    level: float = 0.95


def record_of(
    splits: Mapping[str, Labelled],
    outcomes: Mapping[str, Outcomes],
    class_names: Sequence[str],
    roles: Roles,
    *,
    unknown: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record: that of `records`, `mistakes`, `calibrated`, `conformal`, `summary`.

    Args:
        splits: By name, with their seeds (`intervals.seeded`); `validation` is reported nowhere.
        outcomes: Theirs.
        class_names: Of the model, for the mistakes.
        roles: Which split is what.
        unknown: What `detection.detection_record` says of the OOD sets; None: there are none.

    Raises:
        ConfigError: As `metrics.bootstrap.intervals` and `posthoc.calibrated`.
        DataError: As `posthoc.calibrated` and `posthoc.conformal`.
    """
    record = records(
        splits,
        outcomes,
        id_name=roles.id_name,
        shifts=roles.shifts,
        trends=roles.trends,
        num_bins=roles.num_bins,
        num_resamples=roles.num_resamples,
        level=roles.level,
    )
    reported = {name: split for name, split in splits.items() if name != VALIDATION}
    record["mistakes"] = {
        name: mistakes(outcomes[name], split.class_names(class_names))
        for name, split in reported.items()
    }
    if VALIDATION in splits or roles.calibrators:
        record["calibrated"] = calibrated(
            roles.calibrators,
            splits,
            shifts=roles.shifts,
            num_bins=roles.num_bins,
            num_resamples=roles.num_resamples,
            level=roles.level,
        )
    if VALIDATION in splits and roles.conformal_alpha is not None:
        record["conformal"] = conformal(
            roles.conformal_alpha,
            splits[VALIDATION],
            reported,
            num_resamples=roles.num_resamples,
            level=roles.level,
        )
    return with_unknown(record, unknown or {}, roles)


def with_unknown(
    record: Mapping[str, Any], unknown: Mapping[str, Any], roles: Roles
) -> dict[str, Any]:
    """The record with other numbers of the OOD sets, and the summary of both.

    Args:
        record: Of the labelled splits; what it had of the OOD sets is replaced.
        unknown: What `detection.detection_record` says of them.
        roles: Which split is what.
    """
    found = dict(unknown)
    over = dict(record.get("summary_intervals", {}))
    over |= found.pop("summary_intervals", {}) | summary_intervals(record)
    whole = dict(record) | found | ({"summary_intervals": over} if over else {})
    whole["summary"] = summary(
        whole["metrics"],
        found.get("detection", {}),
        id_name=roles.id_name,
        shifts=roles.shifts,
        near=roles.near,
        far=roles.far,
        score=roles.table_score,
        calibrated=whole.get("calibrated", {}).get(TEMPERATURE, {}).get("metrics"),
        num_bins=roles.num_bins,
    )
    return whole


def records(
    splits: Mapping[str, Labelled],
    outcomes: Mapping[str, Outcomes],
    *,
    id_name: str,
    shifts: Sequence[str] = (),
    trends: Mapping[str, Trend] | None = None,
    num_bins: int = NUM_BINS,
    num_resamples: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """`metrics`, `reliability`, `selective` of every split; `level`; with resamples `intervals`.

    With resamples and shifts `summary_intervals` too.

    Args:
        splits: By name.
        outcomes: Theirs.
        id_name: The ID split's name.
        shifts: The splits whose mean and worst are summarised.
        trends: For shifts, by name, the line of baseline models: their effective robustness.
        num_bins: Of the calibration errors, whose names carry it, and of the reliability diagrams.
        num_resamples: Of the bootstrap; 0: no intervals.
        level: Of the intervals.

    Raises:
        ConfigError: As `metrics.bootstrap.intervals`.
    """
    bootstrap.check_level(level)
    bootstrap.check_num_resamples(num_resamples)
    parts = ("metrics", "reliability", "selective")
    found: dict[str, Any] = {part: {} for part in parts} | {"level": level}
    for name, one in outcomes.items():
        found["metrics"][name] = splits[name].metrics(one, num_bins=num_bins)
        found["reliability"][name] = reliability(one, num_bins=num_bins, level=level)
        found["selective"][name] = selective_curve(one)
    accuracies = {name: np.array([of["accuracy"]]) for name, of in found["metrics"].items()}
    for name, beyond in _robustness(accuracies, trends or {}, id_name).items():
        found["metrics"][name][ROBUSTNESS] = float(beyond[0])
    if num_resamples:
        values = {
            name: intervals.resampled(
                splits[name], one, num_bins=num_bins, num_resamples=num_resamples
            )
            for name, one in outcomes.items()
        }
        over = intervals.over_shifts(values, shifts, num_bins=num_bins)
        accuracies = {name: of["accuracy"] for name, of in values.items()}
        robustness = _robustness(accuracies, trends or {}, id_name)
        for name, beyond in robustness.items():
            values[name][ROBUSTNESS] = beyond
        if robustness:
            over[ROBUSTNESS] = np.mean(list(robustness.values()), axis=0)
        found |= intervals.parts(values, over, level)
    return found


def check_trends(trends: Mapping[str, Trend], shifts: Collection[str], *, where: str) -> None:
    """Refuses a line that is none, or of no shift.

    Raises:
        ConfigError: Naming the line.
    """
    for name, trend in trends.items():
        if name not in shifts:
            raise ConfigError(
                f"{where}: there is no shift {name!r}.{nearest(name, shifts)} Correct the name."
            )
        for field in ("slope", "intercept"):
            if not np.isfinite(getattr(trend, field)):
                raise ConfigError(
                    f"{where}.{name}.{field}: got {getattr(trend, field)}, expected a finite "
                    "number. Fit the line with metrics.robustness.accuracy_trend."
                )


def _robustness(
    accuracies: Mapping[str, Float[np.ndarray, " r"]], trends: Mapping[str, Trend], id_name: str
) -> dict[str, Float[np.ndarray, " r"]]:
    """The effective robustness on each shift with a line."""
    return {
        name: effective_robustness(accuracies[id_name], accuracies[name], trend=trend)
        for name, trend in trends.items()
    }


def selective_curve(outcomes: Outcomes) -> dict[str, list[float]]:
    """Coverage and risk of thresholds on the confidence, at most `MAX_CURVE_POINTS` of them.

    Even in coverage, as far as ties allow; the first and the last of the curve among them.
    """
    curve = selective.risk_coverage(outcomes.confidence, outcomes.correct)
    wanted = np.linspace(curve.coverage[0], 1, MAX_CURVE_POINTS)
    points = np.unique(np.searchsorted(curve.coverage, wanted - 1e-12))
    return {"coverage": curve.coverage[points].tolist(), "risk": curve.risk[points].tolist()}


def mistakes(outcomes: Outcomes, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The most confident wrong predictions, the first of equals, `MAX_MISTAKES` at most.

    Args:
        outcomes: Of the split.
        class_names: Of its classes.
    """
    wrong = np.flatnonzero(~outcomes.correct)
    rows = wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")[:MAX_MISTAKES]]
    return [
        {
            "index": row,
            "label": class_names[outcomes.labels[row]],
            "prediction": class_names[outcomes.predicted[row]],
            "confidence": float(outcomes.confidence[row]),
        }
        for row in rows.tolist()
    ]
