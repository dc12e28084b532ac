"""Accuracy and calibration of predictions, and their summary over distribution shifts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.metrics import calibration, classification, selective, smooth
from calib_jax.metrics.outcomes import Outcomes
from calib_jax.metrics.wilson import wilson_interval

NUM_BINS = 15
ROBUSTNESS = "effective_robustness"
"""The metric of a shift that baseline models have a line for."""


def finite(value: float | int) -> float | None:
    """The number; None where it is NaN or infinite, which JSON has no word for."""
    return float(value) if math.isfinite(value) else None


def classification_metrics(outcomes: Outcomes, *, num_bins: int = NUM_BINS) -> dict[str, float]:
    """Every accuracy and calibration metric of one split; fractions in 0..1, NLL in nats.

    Of `Labelled.outcomes`, which knows the classes of the data set: never of raw logits.

    `ece_10_per_batch_512` is there to be compared with published numbers only
    (`calibration.batch_averaged_calibration_error`). `brier_*` are the parts of the Brier score of
    the confidence (`calibration.brier_decomposition`), not of `brier`, which is over all classes.
    """
    confidence, correct = outcomes.confidence, outcomes.correct
    error = functools.partial(calibration.calibration_error, confidence, correct)
    debiased = calibration.debiased_calibration_error(confidence, correct, num_bins=num_bins)
    classes = (outcomes.predicted, outcomes.labels)
    num_classes = outcomes.num_classes
    curve = selective.risk_coverage(confidence, correct)
    parts = calibration.brier_decomposition(confidence, correct, num_bins=num_bins)
    return {
        "accuracy": float(correct.mean()),
        "top5_accuracy": float((outcomes.rank < 5).mean()),
        "balanced_accuracy": classification.balanced_accuracy(*classes, num_classes=num_classes),
        "macro_f1": classification.macro_f1(*classes, num_classes=num_classes),
        "nll": float(outcomes.nll.mean()),
        "brier": float(outcomes.brier.mean()),
        "ece_10": error(num_bins=10),
        f"ece_{num_bins}": error(num_bins=num_bins),
        f"ece_{num_bins}_l2": error(num_bins=num_bins, norm="l2"),
        f"debiased_ece_{num_bins}": debiased,
        "adaptive_ece": error(num_bins=num_bins, binning="mass"),
        "classwise_ece": outcomes.classwise_calibration_error,
        "mce": error(num_bins=num_bins, norm="max"),
        "smooth_ece": smooth.smooth_calibration_error(confidence, correct),
        "ks": smooth.ks_calibration_error(confidence, correct),
        "ece_10_per_batch_512": calibration.batch_averaged_calibration_error(confidence, correct),
        "aurc": selective.aurc(curve),
        "augrc": selective.augrc(curve),
        "brier_reliability": parts.reliability,
        "brier_resolution": parts.resolution,
        "brier_uncertainty": parts.uncertainty,
        "mean_confidence": float(confidence.mean()),
    }


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
