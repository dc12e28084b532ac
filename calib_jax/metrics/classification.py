"""Accuracy and proper scoring rules of a whole split."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from calib_jax.core import errors, numerics
from calib_jax.metrics import inputs


def accuracy(logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> float:
    """Fraction of examples, in [0, 1], whose largest logit (or probability) is the label's.

    The lowest class index wins a tie, as in argmax.

    Raises:
      DataError: for an empty split, mismatched shapes, NaN, infinity or a label outside [0, c).
    """
    inputs.check_matrix(logits, labels, name="logits")
    return float((logits.argmax(axis=1) == labels).mean())


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
    inputs.check_matrix(logits, labels, name="logits")
    num_rows, num_classes = logits.shape
    classes = np.arange(num_classes)
    num_correct = 0
    for rows in numerics.row_blocks(num_rows, num_classes):
        block, label = logits[rows], labels[rows, None]
        own = np.take_along_axis(block, label, axis=1)
        ahead = (block > own) | ((block == own) & (classes < label))
        num_correct += int((ahead.sum(axis=1) < k).sum())
    return num_correct / num_rows


def negative_log_likelihood(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> float:
    """Mean `-log softmax(logits)[label]` in nats; 0 is perfect.

    Stable for logits of any span: the log of a probability is never taken.

    Raises:
      DataError: as `accuracy`.
    """
    inputs.check_matrix(logits, labels, name="logits")
    own = logits[np.arange(len(labels)), labels].astype(np.float64)
    below_max = logits.max(axis=1).astype(np.float64) - own
    return float((below_max + np.log(numerics.sum_exp_from_max(logits))).mean())


def brier_score(probs: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean squared distance of `probs` to the one-hot label, in [0, 2]; 0 is perfect.

    Summed over classes, averaged over examples (Brier 1950, the multi-class form):
    `mean_i sum_k (p_ik - [k = y_i])^2`.

    Raises:
      DataError: as `accuracy`, and for rows that are not distributions.
    """
    inputs.check_probs(probs, labels)
    squares = 0.0
    for rows in numerics.row_blocks(*probs.shape):
        residual = probs[rows].astype(np.float64)
        residual[np.arange(len(residual)), labels[rows]] -= 1
        squares += float(np.vdot(residual, residual))
    return squares / len(labels)
