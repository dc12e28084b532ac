"""A model's scores of a labelled split, and the metrics of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Integer, Real

from calib_jax.core.errors import ConfigError
from calib_jax.core.numerics import spread
from calib_jax.core.types import Predictions
from calib_jax.evaluation.restrict import relabel, restrict
from calib_jax.evaluation.split_metrics import NUM_BINS, classification_metrics, finite
from calib_jax.metrics.builtin import BUILTIN
from calib_jax.metrics.metric import Metric
from calib_jax.metrics.outcomes import Kind, Outcomes, of_logits, of_probs

ONE_ANSWER = tuple(key for key, metric in BUILTIN.items() if metric.one_answer)
"""Metrics that ask for the one class of an example: undefined where several are right."""


@runtime_checkable
class ClassSplit(Protocol):
    """What `Labelled` asks of a split: an `ImageSplit`, which says what each of it is."""

    groups: Int[np.ndarray, " c"] | None
    has_answers: bool

    def __len__(self) -> int:
        """The number of examples."""

    def answers(
        self, indices: Int[np.ndarray, " n"] | None = None
    ) -> Bool[np.ndarray, "n c"] | None:
        """Which classes are right for these examples, or for all."""


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
        seed: Of the resamples: splits with the same seed and size are resampled alike.
        further: Metrics of the config, by key, beside those of every record.
    """

    scores: Real[np.ndarray, "n c"]
    labels: Integer[np.ndarray, " n"]
    kind: Kind = "logits"
    groups: Int[np.ndarray, " c"] | None = None
    answers: Bool[np.ndarray, "n c"] | None = None
    zero_shot: Real[np.ndarray, "n c"] | None = None
    seed: int = 0
    further: Mapping[str, Metric] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        split: ClassSplit,
        *,
        zero_shot: Predictions | None = None,
    ) -> Labelled:
        """What predictions say of a split, over the classes of its data set.

        Whatever a model is judged by comes from here. A number that chooses a trial, a penalty or
        an alpha is the one that the report has of the same split.

        Args:
            predictions: Of every example, or of fewer at even distances (`core.numerics.spread`).
            split: What was predicted.
            zero_shot: Those of the pre-trained model.
        """
        answers = None
        if split.has_answers:
            answers = split.answers(spread(len(split), len(predictions.labels)))
        return cls(
            scores=predictions.logits,
            labels=predictions.labels,
            groups=split.groups,
            answers=answers,
            zero_shot=None if zero_shot is None else zero_shot.logits,
        )

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
        if self.answers is None:
            return ()
        return ONE_ANSWER + tuple(key for key, one in self.further.items() if one.one_answer)

    def metrics(
        self, outcomes: Outcomes | None = None, *, num_bins: int = NUM_BINS
    ) -> dict[str, float | None]:
        """The `classification_metrics` of its outcomes; None for what is infinite or undefined.

        Args:
            outcomes: Those of the split, where they are there already.
            num_bins: Of the calibration errors.
        """
        if outcomes is None:
            outcomes = self.outcomes(num_bins=num_bins)
        values = classification_metrics(outcomes, num_bins=num_bins, further=self.further)
        return {
            key: None if key in self.undefined else finite(value) for key, value in values.items()
        }

    def class_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """What the classes of the outcomes are called; several in one, by the first of them."""
        if self.groups is None:
            return tuple(class_names)
        _, first = np.unique(self.groups[self.groups >= 0], return_index=True)
        return tuple(class_names[index] for index in np.flatnonzero(self.groups >= 0)[first])


def check_defined(metric: str, split: ClassSplit, *, where: str, fix: str) -> None:
    """Refuses to choose by a metric that the validation split has none of.

    Args:
        metric: That decides.
        split: The validation split.
        where: The field that names the metric.
        fix: What to do instead.

    Raises:
        ConfigError: Several answers are right for an example, and the metric asks for the one.
    """
    if split.has_answers and metric in ONE_ANSWER:
        raise ConfigError(
            f"{where}: got {metric!r}, but several classes are right for an example of the "
            f"validation split, which has no such number. {fix}"
        )
