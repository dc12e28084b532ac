"""How well a score tells in-distribution (ID) from out-of-distribution (OOD) examples.

Scores are HIGHER = MORE IN-DISTRIBUTION, here and everywhere. FPR and AUPR depend on which
class is called positive (the literature is split: MCM and its heirs say ID, OpenOOD and
pytorch-ood say OOD), so the caller names it. Equal scores pass a threshold together.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.core import errors, inputs

Positive = Literal["id", "ood"]


@inputs.takes_lists
def auroc(
    scores: Float[np.ndarray, " n"], is_id: Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]
) -> float:
    """Probability, in [0, 1], that an ID example scores above an OOD one, a tie counting half.

    The area under the ROC curve, the same whichever class is positive (Mann-Whitney).

    Raises:
      DataError: for an empty split, mismatched shapes, NaN or infinity, or one class only.
    """
    return _auroc(*_tie_groups(scores, is_id))


@inputs.takes_lists
def average_precision(
    scores: Float[np.ndarray, " n"],
    is_id: Bool[np.ndarray, " n"] | Int[np.ndarray, " n"],
    *,
    positive: Positive,
) -> float:
    """Area under the precision-recall curve by steps, in [0, 1]; chance is the positives' share.

    `sum_t (recall_t - recall_{t-1}) precision_t`, scikit-learn's `average_precision_score`:
    the default AUPR of this library, as it does not interpolate optimistically.

    Raises:
      ConfigError: if `positive` is neither `id` nor `ood`.
      DataError: as `auroc`.
    """
    return _average_precision(*_curve(*_tie_groups(scores, is_id), positive=positive))


@inputs.takes_lists
def aupr_trapezoid(
    scores: Float[np.ndarray, " n"],
    is_id: Bool[np.ndarray, " n"] | Int[np.ndarray, " n"],
    *,
    positive: Positive,
) -> float:
    """Area under the precision-recall curve by trapezoids, in [0, 1].

    The linear interpolation of OpenOOD and pytorch-ood, from precision 1 at recall 0; it
    differs from `average_precision` in the fourth digit on splits of a thousand.

    Raises:
      ConfigError: if `positive` is neither `id` nor `ood`.
      DataError: as `auroc`.
    """
    hits, false_alarms = _curve(*_tie_groups(scores, is_id), positive=positive)
    recall = np.append(0.0, hits / hits[-1])
    precision = np.append(1.0, hits / (hits + false_alarms))
    return float(np.trapezoid(precision, recall))


@inputs.takes_lists
def fpr_at_tpr(
    scores: Float[np.ndarray, " n"],
    is_id: Bool[np.ndarray, " n"] | Int[np.ndarray, " n"],
    *,
    positive: Positive,
    tpr: float = 0.95,
) -> float:
    """False positive rate, in [0, 1], at the first threshold that reaches the TPR `tpr`.

    `positive="id"`: the fraction of OOD accepted when 95 % of ID are kept (MCM).
    `positive="ood"`: the fraction of ID flagged when 95 % of OOD are caught (OpenOOD).
    The threshold never falls short of `tpr`, and takes tied scores as one group.

    Raises:
      ConfigError: if `tpr` is outside [0, 1] or `positive` is neither `id` nor `ood`.
      DataError: as `auroc`.
    """
    if not 0 <= tpr <= 1:
        raise errors.ConfigError(
            f"tpr: got {tpr}, expected a fraction in [0, 1]. Use 0.95 for FPR95."
        )
    return _fpr_at_tpr(*_curve(*_tie_groups(scores, is_id), positive=positive), tpr=tpr)


@inputs.takes_lists
def detection(
    id_scores: Float[np.ndarray, " i"], ood_scores: Float[np.ndarray, " o"]
) -> dict[str, float]:
    """AUROC, AUPR (average precision) and FPR95 with either class as positive, all in [0, 1].

    Keys: `auroc`, `aupr_id`, `aupr_ood`, `fpr95_id_positive`, `fpr95_ood_positive`. The
    scores are sorted once.

    Raises:
      DataError: for NaN or infinity, or where one of the two splits is empty.
    """
    for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores)):
        inputs.check_not_empty(scores, name=name)
        inputs.check_finite(scores, name=name)
    is_id = np.arange(len(id_scores) + len(ood_scores)) < len(id_scores)
    groups = _tie_groups(np.concatenate([id_scores, ood_scores]), is_id)
    id_curve = _curve(*groups, positive="id")
    ood_curve = _curve(*groups, positive="ood")
    return {
        "auroc": _auroc(*groups),
        "aupr_id": _average_precision(*id_curve),
        "aupr_ood": _average_precision(*ood_curve),
        "fpr95_id_positive": _fpr_at_tpr(*id_curve, tpr=0.95),
        "fpr95_ood_positive": _fpr_at_tpr(*ood_curve, tpr=0.95),
    }


def _tie_groups(scores: np.ndarray, is_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of ID and of OOD examples at each distinct score, scores ascending."""
    inputs.check_same_length(scores, is_id, names=("scores", "is_id"))
    inputs.check_finite(scores, name="scores")
    inputs.check_binary(is_id, name="is_id")
    order = np.argsort(scores)
    ordered = scores[order]
    starts = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
    num_id = np.add.reduceat(is_id[order], starts, dtype=np.int64)
    num_ood = np.diff(starts, append=len(scores)) - num_id
    if not num_id.any() or not num_ood.any():
        missing = "OOD" if num_id.any() else "ID"
        raise errors.DataError(
            f"is_id: got no {missing} example among {len(scores)}, expected both classes. "
            "Pass the scores of an ID and of an OOD split."
        )
    return num_id, num_ood


def _curve(
    num_id: np.ndarray, num_ood: np.ndarray, *, positive: Positive
) -> tuple[np.ndarray, np.ndarray]:
    """Hits and false alarms at each threshold, from the strictest to the one all pass."""
    if positive == "id":
        return np.cumsum(num_id[::-1]), np.cumsum(num_ood[::-1])
    if positive == "ood":
        return np.cumsum(num_ood), np.cumsum(num_id)
    raise errors.ConfigError(
        f"positive: got {positive!r}, expected 'id' or 'ood'. Name the class that is detected."
    )


def _auroc(num_id: np.ndarray, num_ood: np.ndarray) -> float:
    # Twice the Mann-Whitney U in integers: exact up to 10^9 examples of each class.
    twice_u = num_id @ (2 * np.cumsum(num_ood) - num_ood)
    return float(twice_u / (2 * num_id.sum() * num_ood.sum()))


def _average_precision(hits: np.ndarray, false_alarms: np.ndarray) -> float:
    return float(np.diff(hits, prepend=0) @ (hits / (hits + false_alarms)) / hits[-1])


def _fpr_at_tpr(hits: np.ndarray, false_alarms: np.ndarray, *, tpr: float) -> float:
    if tpr == 0:
        return 0.0
    # 55 / 100 is the double 0.55, but 0.55 * 100 is above 55: divide, do not multiply.
    first = int(np.argmax(hits / hits[-1] >= tpr))
    return float(false_alarms[first] / false_alarms[-1])
