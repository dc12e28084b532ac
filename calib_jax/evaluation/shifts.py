"""Accuracy and calibration of predictions, and their summary over distribution shifts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.core.types import Predictions
from calib_jax.metrics import calibration, classification
from calib_jax.metrics.outcomes import Outcomes, of_logits

NUM_BINS = 15


def classification_metrics(split: Predictions | Outcomes) -> dict[str, float]:
    """Every accuracy and calibration metric of one split; fractions in 0..1, NLL in nats."""
    outcomes = _outcomes(split)
    confidence, correct = outcomes.confidence, outcomes.correct
    error = functools.partial(calibration.calibration_error, confidence, correct)
    classes = (outcomes.predicted, outcomes.labels)
    num_classes = outcomes.num_classes
    return {
        "accuracy": float(correct.mean()),
        "top5_accuracy": float((outcomes.rank < 5).mean()),
        "balanced_accuracy": classification.balanced_accuracy(*classes, num_classes=num_classes),
        "macro_f1": classification.macro_f1(*classes, num_classes=num_classes),
        "nll": float(outcomes.nll.mean()),
        "brier": float(outcomes.brier.mean()),
        "ece_10": error(num_bins=10),
        "ece_15": error(num_bins=NUM_BINS),
        "adaptive_ece": error(num_bins=NUM_BINS, binning="mass"),
        "classwise_ece": outcomes.classwise_calibration_error,
        "mce": error(num_bins=NUM_BINS, norm="max"),
        "mean_confidence": float(confidence.mean()),
    }


def reliability(split: Predictions | Outcomes) -> dict[str, list[float | None]]:
    """The reliability diagram: edges, counts, mean confidence, accuracy; None where empty."""
    outcomes = _outcomes(split)
    bins = calibration.reliability_bins(outcomes.confidence, outcomes.correct, num_bins=NUM_BINS)
    return {
        field.name: [
            None if math.isnan(value) else float(value) for value in getattr(bins, field.name)
        ]
        for field in dataclasses.fields(bins)
    }


def _outcomes(split: Predictions | Outcomes) -> Outcomes:
    if isinstance(split, Outcomes):
        return split
    return of_logits(split.logits, split.labels, num_bins=NUM_BINS)


def summary(
    metrics: Mapping[str, Mapping[str, float]],
    detection: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    id_name: str,
    shifts: Sequence[str],
    near: Sequence[str],
    far: Sequence[str],
    score: str,
) -> dict[str, float | None]:
    """The numbers of the table: means over the shifts, and over the near and far OOD sets.

    Every shift counts the same, however many images it has. Without shifts or
    OOD sets the number is None.
    """

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    return {
        "id_accuracy": metrics[id_name]["accuracy"],
        "ood_accuracy": mean([metrics[name]["accuracy"] for name in shifts]),
        "id_ece": metrics[id_name]["ece_15"],
        "ood_ece": mean([metrics[name]["ece_15"] for name in shifts]),
        "near_auroc": mean([detection[name][score]["auroc"] for name in near]),
        "far_auroc": mean([detection[name][score]["auroc"] for name in far]),
    }


def overlapping(runs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The rows made of several fits, of which two seeds share some: no independent repeats."""
    members: dict[str, list[int]] = {}
    for run in runs:
        seeds = run.get("combination", {}).get("seeds", [])
        members.setdefault(run["method"], []).extend(seeds)
    return {method for method, seeds in members.items() if len(set(seeds)) < len(seeds)}


def mean_and_std(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a method: mean and sample standard deviation over the seeds of each summary number.

    The deviation is None for one seed, and for rows of `overlapping` fits; both are None where no
    seed has the number.
    """
    shared = overlapping(runs)
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        summaries = [run["summary"] for run in runs if run["method"] == method]
        row: dict[str, Any] = {"method": method}
        for key in summaries[0]:
            values = [values[key] for values in summaries if values[key] is not None]
            row[key] = {
                "mean": float(np.mean(values)) if values else None,
                "std": float(np.std(values, ddof=1))
                if len(values) > 1 and method not in shared
                else None,
            }
        rows.append(row)
    return rows
