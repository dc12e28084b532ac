"""Everything that is computed from a labelled split by itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Integer, Real

from calib_jax.core.numerics import softmax
from calib_jax.core.restrict import relabel, restrict
from calib_jax.evaluation.shifts import NUM_BINS, classification_metrics, finite, reliability
from calib_jax.metrics import bootstrap, bootstrap_curves, selective
from calib_jax.metrics import bootstrap_calibration as of_calibration
from calib_jax.metrics.bootstrap import Statistic
from calib_jax.metrics.outcomes import Kind, Outcomes, of_logits, of_probs

MAX_CURVE_POINTS = 101
MAX_MISTAKES = 8
MAX_CLASSWISE = 1_000_000_000
"""Examples times classes times resamples of an interval of the class-wise ECE: some seconds."""

ONE_ANSWER = ("top5_accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "classwise_ece")
"""Metrics that ask for the one class of an example: undefined where several are right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """What a model says of a labelled split, over all its classes.

    Attributes:
        scores: Logits, or probabilities.
        labels: Among the model's classes.
        kind: What the scores are.
        groups: As `ImageSplit.groups`: the metrics are those of the data set's own k classes.
        answers: As `ImageSplit.answers`: any of them is right.
        zero_shot: The scores of the pre-trained model, for calibrators that compare the two.
    """

    scores: Real[np.ndarray, "n c"]
    labels: Integer[np.ndarray, " n"]
    kind: Kind = "logits"
    groups: Int[np.ndarray, " c"] | None = None
    answers: Bool[np.ndarray, "n c"] | None = None
    zero_shot: Real[np.ndarray, "n c"] | None = None

    def restricted(self) -> Real[np.ndarray, "n k"]:
        """The scores of the data set's classes.

        Probabilities are divided by their sum; where all of them are 0 they become uniform.
        """
        if self.groups is None:
            return self.scores
        scores = restrict(self.scores, self.groups)
        if self.kind == "logits":
            return scores
        total = scores.sum(axis=1, keepdims=True)
        uniform = np.full_like(scores, 1 / scores.shape[1])
        return np.divide(scores, total, out=uniform, where=total > 0)

    def outcomes(self, *, num_bins: int = NUM_BINS) -> Outcomes:
        """Outcomes over the data set's classes.

        Raises:
            DataError: As `metrics.outcomes`.
        """
        scores, labels, answers = self.restricted(), self.labels, self.answers
        if self.groups is not None:
            labels = self.groups[labels]
            if answers is not None:
                answers = restrict(answers.astype(np.float32), self.groups) > 0
        if answers is not None:
            labels = relabel(scores, labels, answers)
        of_scores = of_logits if self.kind == "logits" else of_probs
        return of_scores(scores, labels, num_bins=num_bins)

    @property
    def undefined(self) -> tuple[str, ...]:
        """The metrics that this split has none of."""
        return () if self.answers is None else ONE_ANSWER

    def metrics(self, outcomes: Outcomes, *, num_bins: int = NUM_BINS) -> dict[str, float | None]:
        """The `classification_metrics` of its outcomes; None for what is infinite or undefined."""
        values = classification_metrics(outcomes, num_bins=num_bins)
        return {
            key: None if key in self.undefined else finite(value) for key, value in values.items()
        }

    def class_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """What the classes of the outcomes are called; several in one, by the first of them."""
        if self.groups is None:
            return tuple(class_names)
        _, first = np.unique(self.groups[self.groups >= 0], return_index=True)
        return tuple(class_names[index] for index in np.flatnonzero(self.groups >= 0)[first])


def records(
    splits: Mapping[str, Labelled],
    outcomes: Mapping[str, Outcomes],
    *,
    shifts: Sequence[str] = (),
    num_bins: int = NUM_BINS,
    num_resamples: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """`metrics`, `reliability`, `selective` of every split; `level`; with resamples `intervals`.

    With resamples and shifts `summary_intervals` too.

    Args:
        splits: By name.
        outcomes: Theirs.
        shifts: The splits whose mean and worst are summarised.
        num_bins: Of the calibration errors, whose names carry it, and of the reliability diagrams.
        num_resamples: Of the bootstrap; 0: no intervals.
        level: Of the intervals.

    Raises:
        ConfigError: As `metrics.bootstrap.intervals`.
    """
    bootstrap.check_level(level)
    parts = ("metrics", "reliability", "selective")
    found: dict[str, Any] = {part: {} for part in parts} | {"level": level}
    for name, one in outcomes.items():
        found["metrics"][name] = splits[name].metrics(one, num_bins=num_bins)
        found["reliability"][name] = reliability(one, num_bins=num_bins, level=level)
        found["selective"][name] = selective_curve(one)
    if not num_resamples:
        return found
    values = {}
    for name, one in outcomes.items():
        of_split = statistics(splits[name], one, num_bins=num_bins, num_resamples=num_resamples)
        values[name] = bootstrap.resampled(of_split, num_resamples=num_resamples)
    found["intervals"] = {name: _ends(of_split, level) for name, of_split in values.items()}
    if shifts:
        over = {
            key: np.stack([values[name][key] for name in shifts])
            for key in ("accuracy", f"ece_{num_bins}")
        }
        accuracy, ece = over.values()
        summaries = {
            "ood_accuracy": accuracy.mean(axis=0),
            "ood_ece": ece.mean(axis=0),
            "worst_shift_accuracy": accuracy.min(axis=0),
            "worst_shift_ece": ece.max(axis=0),
        }
        found["summary_intervals"] = _ends(summaries, level)
    return found


def _ends(values: Mapping[str, np.ndarray], level: float) -> dict[str, list[float]]:
    return {key: list(bootstrap.percentiles(v, level=level)) for key, v in values.items()}


def statistics(
    split: Labelled,
    outcomes: Outcomes,
    *,
    num_bins: int = NUM_BINS,
    num_resamples: int = 1000,
) -> dict[str, Statistic]:
    """The metrics of a split as functions of how often each example is drawn.

    All that are defined and finite, but for the ECE of batches, which depends on the order of the
    examples, and the class-wise ECE where it would take long (`MAX_CLASSWISE`).

    Args:
        split: With the scores.
        outcomes: Of the split.
        num_bins: Of the calibration errors.
        num_resamples: That are to be drawn.
    """
    top = (outcomes.confidence, outcomes.correct)
    classes = (outcomes.predicted, outcomes.labels)
    error = functools.partial(of_calibration.calibration_error, *top)
    part = functools.partial(of_calibration.brier_part, *top, num_bins=num_bins)
    found = {
        "accuracy": bootstrap.mean(outcomes.correct),
        "top5_accuracy": bootstrap.mean(outcomes.rank < 5),
        "balanced_accuracy": bootstrap.balanced_accuracy(*classes),
        "macro_f1": bootstrap.macro_f1(*classes),
        "brier": bootstrap.mean(outcomes.brier),
        "ece_10": error(num_bins=10),
        f"ece_{num_bins}": error(num_bins=num_bins),
        f"ece_{num_bins}_l2": error(num_bins=num_bins, norm="l2"),
        f"debiased_ece_{num_bins}": of_calibration.debiased_calibration_error(
            *top, num_bins=num_bins
        ),
        "adaptive_ece": error(num_bins=num_bins, binning="mass"),
        "mce": error(num_bins=num_bins, norm="max"),
        "smooth_ece": of_calibration.smooth_calibration_error(*top),
        "ks": of_calibration.ks_calibration_error(*top),
        "aurc": bootstrap_curves.aurc(*top),
        "augrc": bootstrap_curves.augrc(*top),
        "brier_reliability": part(part="reliability"),
        "brier_resolution": part(part="resolution"),
        "brier_uncertainty": part(part="uncertainty"),
        "mean_confidence": bootstrap.mean(outcomes.confidence),
    }
    if np.isfinite(outcomes.nll).all():
        found["nll"] = bootstrap.mean(outcomes.nll)
    size = len(outcomes.labels) * outcomes.num_classes * num_resamples
    if size <= MAX_CLASSWISE and "classwise_ece" not in split.undefined:
        scores = split.restricted().astype(np.float64)
        found["classwise_ece"] = of_calibration.classwise_calibration_error(
            scores if split.kind == "probs" else softmax(scores), outcomes.labels, num_bins=num_bins
        )
    return {key: value for key, value in found.items() if key not in split.undefined}


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
