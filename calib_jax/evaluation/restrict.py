"""Logits and labels of data sets that have fewer classes than the model, or several right ones."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from calib_jax.core.errors import ConfigError


def restrict(
    logits: Float[np.ndarray, "n c"], groups: Int[np.ndarray, " c"]
) -> Float[np.ndarray, "n k"]:
    """Logits over the k classes of a data set: `r_ij = max of l_iy over all y with g_y = j`.

    The softmax comes after it: the probability of the other classes goes to these k. The labels
    of `r` are `groups[labels]`. ImageNet-A and -R are evaluated so over 200 classes (Hendrycks et
    al., arXiv 1907.07174 and 2006.16241, in their eval.py), ObjectNet over 113, with the maximum
    where one of them is several classes of ImageNet (as WiSE-FT, arXiv 2109.01903, does).

    Args:
        logits: Over the c classes of the model.
        groups: `ImageSplit.groups`: the data set's class, 0 to k - 1, that each class of the model
            belongs to; -1 for none.

    Raises:
        ConfigError: The groups are not -1 to k - 1, each of the k at least once.
    """
    found = set(groups.tolist()) - {-1}
    if not found or found != set(range(len(found))):
        raise ConfigError(
            f"groups: got the classes {_short(sorted(found))}, expected 0 to k - 1, each for at "
            "least one class of the model, and -1 for the rest. Take them from ImageSplit.groups."
        )
    kept = np.argsort(groups, kind="stable")[np.count_nonzero(groups < 0) :]
    starts = np.flatnonzero(np.diff(groups[kept], prepend=-1))
    return np.maximum.reduceat(logits[:, kept], starts, axis=1)


def restrict_traced(
    logits: Float[Array, "n c"], groups: Int[np.ndarray, " c"]
) -> Float[Array, "n k"]:
    """`restrict` in JAX, for a loss on a data set of fewer classes; differentiable.

    Args:
        logits: Over the c classes of the model.
        groups: As there.
    """
    kept = np.flatnonzero(groups >= 0)
    num_groups = int(groups.max()) + 1
    return jax.ops.segment_max(logits.T[kept], groups[kept], num_segments=num_groups).T


def relabel(
    logits: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    answers: Bool[np.ndarray, "n c"],
) -> Int[np.ndarray, " n"]:
    """Labels that hold the prediction where it is one of the right answers.

    With them, top-1 accuracy is ReaL accuracy (Beyer et al., arXiv 2006.07159), and all
    that is computed from confidences and hits alone (ECE, AURC) follows it. Not for the likelihood
    of a label (NLL, Brier, class-wise ECE): these would favour the model's own choice.

    Args:
        logits: Over the c classes of the model.
        labels: One right answer each.
        answers: `ImageSplit.answers`: all right answers.
    """
    predictions = logits.argmax(axis=1)
    is_right = answers[np.arange(len(labels)), predictions]
    return np.where(is_right, predictions, labels).astype(labels.dtype)


def _short(classes: list[int]) -> str:
    return str(classes) if len(classes) <= 5 else f"{str(classes[:5])[:-1]}, ...]"
