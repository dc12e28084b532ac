"""Accuracy and proper scoring rules of a whole split.

Each reads its matrix once; for several numbers of one split, `outcomes` reads it once for all.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from calib_jax.core import errors, inputs
from calib_jax.metrics import outcomes


@inputs.takes_lists
def accuracy(logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> float:
    """Fraction of examples, in [0, 1], whose largest logit (or probability) is the label's.

    The lowest class index wins a tie, as in argmax.

    Raises:
      DataError: for an empty split, mismatched shapes, NaN, infinity or a label outside [0, c).
    """
    inputs.check_matrix(logits, labels, name="logits")
    return float((logits.argmax(axis=1) == labels).mean())


@inputs.takes_lists
def top_k_accuracy(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], *, k: int = 5
) -> float:
    """Fraction of examples, in [0, 1], whose label is among the k largest logits.

    Ties go to the lower class index, so `k=1` is `accuracy` and constant logits earn
    nothing. With `k >= c` the answer is 1.0.

    Raises:
      ConfigError: if `k` is below 1.
      DataError: as `accuracy`.
    """
    if k < 1:
        raise errors.ConfigError(f"k: got {k}, expected at least 1. Use k=1 for top-1 accuracy.")
    return float((outcomes.of_logits(logits, labels).rank < k).mean())


@inputs.takes_lists
def negative_log_likelihood(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> float:
    """Mean `-log softmax(logits)[label]` in nats; 0 is perfect.

    Stable for logits of any span: the log of a probability is never taken.

    Raises:
      DataError: as `accuracy`.
    """
    return float(outcomes.of_logits(logits, labels).nll.mean())


@inputs.takes_lists
def brier_score(probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean squared distance of `probs` to the one-hot label, in [0, 2]; 0 is perfect.

    Summed over classes, averaged over examples (Brier 1950, the multi-class form):
    `mean_i sum_k (p_ik - [k = y_i])^2`.

    Raises:
      DataError: as `accuracy`, and for rows that are not distributions.
    """
    return float(outcomes.of_probs(probs, labels).brier.mean())


@inputs.takes_lists
def per_class_accuracy(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], *, num_classes: int
) -> Float[np.ndarray, " c"]:
    """Fraction of each class's examples that are predicted as it (its recall), in [0, 1].

    NaN for a class without an example.

    Raises:
      DataError: for an empty split, mismatched shapes or a class outside [0, num_classes).
    """
    hits, examples, _ = _counts(predicted, labels, num_classes=num_classes)
    return hits / np.where(examples > 0, examples, np.nan)


@inputs.takes_lists
def balanced_accuracy(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], *, num_classes: int
) -> float:
    """Mean of `per_class_accuracy` over the classes that have an example, in [0, 1].

    Every class counts the same, however rare; scikit-learn's `balanced_accuracy_score`.

    Raises:
      DataError: as `per_class_accuracy`.
    """
    return float(np.nanmean(per_class_accuracy(predicted, labels, num_classes=num_classes)))


@inputs.takes_lists
def macro_f1(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], *, num_classes: int
) -> float:
    """Mean F1 score, in [0, 1], of the classes that are a label or a prediction somewhere.

    `F1_k = 2 hits_k / (examples_k + predictions_k)`, the harmonic mean of precision and recall;
    scikit-learn's `f1_score(average="macro")`.

    Raises:
      DataError: as `per_class_accuracy`.
    """
    hits, examples, predictions = _counts(predicted, labels, num_classes=num_classes)
    total = examples + predictions
    return float((2 * hits[total > 0] / total[total > 0]).mean())


def _counts(
    predicted: np.ndarray, labels: np.ndarray, *, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, examples and predictions of every class."""
    inputs.check_same_length(predicted, labels, names=("predicted", "labels"))
    inputs.check_labels(predicted, num_classes=num_classes, name="predicted")
    inputs.check_labels(labels, num_classes=num_classes)
    hits, examples, predictions = (
        np.bincount(classes, minlength=num_classes)
        for classes in (labels[predicted == labels], labels, predicted)
    )
    return hits, examples, predictions
