"""Accuracy and calibration of predictions, and their summary over distribution shifts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.metrics import calibration
from calib_jax.metrics.builtin import values
from calib_jax.metrics.metric import Metric, SplitView
from calib_jax.metrics.outcomes import Outcomes
from calib_jax.metrics.wilson import wilson_interval

NUM_BINS = 15
ROBUSTNESS = "effective_robustness"
"""The metric of a shift that baseline models have a line for."""


def finite(value: float | int) -> float | None:
    """The number; None where it is NaN or infinite, which JSON has no word for."""
    return float(value) if math.isfinite(value) else None


def classification_metrics(
    outcomes: Outcomes, *, num_bins: int = NUM_BINS, further: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Every metric of `metrics.builtin` of one split; fractions in 0..1, NLL in nats.

    Of `Labelled.outcomes`, which knows the classes of the data set: never of raw logits.

    Args:
        outcomes: Of the split.
        num_bins: Of the calibration errors.
        further: Metrics of a config, by key.
    """
    return values(SplitView(outcomes=outcomes, num_bins=num_bins), further)


def reliability(
    outcomes: Outcomes, *, num_bins: int = NUM_BINS, level: float = 0.95
) -> dict[str, list[float | None]]:
    """The reliability diagram: edges, counts, mean confidence, accuracy; None where empty.

    `accuracy_low` and `accuracy_high` are the Wilson interval of each bin's accuracy.
    """
    bins = calibration.reliability_bins(outcomes.confidence, outcomes.correct, num_bins=num_bins)
    columns = {field.name: getattr(bins, field.name) for field in dataclasses.fields(bins)}
    low, high = wilson_interval(bins.accuracy, bins.count, level=level)
    return {
        name: [finite(value) for value in column.tolist()]
        for name, column in (columns | {"accuracy_low": low, "accuracy_high": high}).items()
    }


def summary(
    metrics: Mapping[str, Mapping[str, float | None]],
    detection: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    id_name: str,
    shifts: Sequence[str],
    near: Sequence[str] = (),
    far: Sequence[str] = (),
    score: str = "",
    calibrated: Mapping[str, Mapping[str, float | None]] | None = None,
    num_bins: int = NUM_BINS,
) -> dict[str, float | None]:
    """The numbers of the table: means over the shifts, and over the near and far OOD sets.

    Every shift counts the same, however many images it has. Without shifts or OOD sets the number
    is None.

    Args:
        metrics: Of every labelled split.
        detection: Of every OOD set and score.
        id_name: The ID split's name.
        shifts: The shifts' names.
        near: The near OOD sets' names.
        far: The far OOD sets' names.
        score: That of the table.
        calibrated: As `metrics`, after temperature scaling; None where there was none.
        num_bins: Of the ECE.
    """
    ece = f"ece_{num_bins}"

    def mean(values: Sequence[Any]) -> float | None:
        return float(np.mean(values)) if values else None

    accuracies: list[Any] = [metrics[name]["accuracy"] for name in shifts]
    errors: list[Any] = [metrics[name][ece] for name in shifts]
    robust: list[Any] = [
        metrics[name][ROBUSTNESS] for name in shifts if ROBUSTNESS in metrics[name]
    ]
    return {
        "id_accuracy": metrics[id_name]["accuracy"],
        "ood_accuracy": mean(accuracies),
        "id_ece": metrics[id_name][ece],
        "ood_ece": mean(errors),
        "near_auroc": mean([detection[name][score]["auroc"] for name in near]),
        "far_auroc": mean([detection[name][score]["auroc"] for name in far]),
        "worst_shift_accuracy": min(accuracies, default=None),
        "worst_shift_ece": max(errors, default=None),
        ROBUSTNESS: mean(robust),
        "ood_ece_calibrated": mean([calibrated[n][ece] for n in shifts] if calibrated else []),
    }
