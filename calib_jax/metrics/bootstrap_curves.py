"""Bootstrap statistics of sorted scores: selective prediction and OOD detection.

The order of the scores does not change with the resample: each number is a function of the
summed counts at every distinct score. All take ties as groups, as `selective` and `detection` do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from calib_jax.core import errors, inputs
from calib_jax.metrics import selective
from calib_jax.metrics.bootstrap import Counts, Statistic, Values, indicator, ratio
from calib_jax.metrics.detection import Positive


def aurc(scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> Statistic:
    """`selective.aurc` of the scores' curve.

    Raises:
      DataError: for an empty split, mismatched shapes, NaN or infinity.
    """

    def of_groups(kept: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        total = np.cumsum(kept, axis=1)
        risk = ratio(np.cumsum(wrong, axis=1), total)
        return np.einsum("rg,rg->r", kept, risk) / len(scores)

    return _selective(scores, correct, of_groups)


def augrc(scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> Statistic:
    """`selective.augrc` of the scores' curve.

    Raises:
      DataError: as `aurc`.
    """

    def of_groups(kept: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        twice = np.einsum("rg,rg->r", kept, 2 * np.cumsum(wrong, axis=1) - wrong)
        return twice / (2 * len(scores) ** 2)

    return _selective(scores, correct, of_groups)


def risk_at_coverage(
    scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], *, coverage: float
) -> Statistic:
    """`selective.risk_at_coverage` of the scores' curve.

    Raises:
      ConfigError: if `coverage` is outside [0, 1].
      DataError: as `aurc`.
    """
    selective.check_fraction(coverage, name="coverage")

    def of_groups(kept: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        total = np.cumsum(kept, axis=1)
        first = ((total > 0) & (total / len(scores) >= coverage)).argmax(axis=1, keepdims=True)
        risk = ratio(np.cumsum(wrong, axis=1), total)
        return np.take_along_axis(risk, first, axis=1)[:, 0]

    return _selective(scores, correct, of_groups)


def coverage_at_risk(
    scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], *, risk: float
) -> Statistic:
    """`selective.coverage_at_risk` of the scores' curve.

    Raises:
      ConfigError: if `risk` is outside [0, 1].
      DataError: as `aurc`.
    """
    selective.check_fraction(risk, name="risk")

    def of_groups(kept: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        total = np.cumsum(kept, axis=1)
        allowed = ratio(np.cumsum(wrong, axis=1), total) <= risk
        return np.where(allowed, total, 0).max(axis=1) / len(scores)

    return _selective(scores, correct, of_groups)


def auroc(id_scores: Float[np.ndarray, " i"], ood_scores: Float[np.ndarray, " o"]) -> Statistic:
    """`detection.auroc`; the ID and the OOD examples are resampled each by themselves.

    Raises:
      DataError: for NaN or infinity, or where one of the two splits is empty.
    """
    return _detection(id_scores, ood_scores, _auroc)


def average_precision(
    id_scores: Float[np.ndarray, " i"], ood_scores: Float[np.ndarray, " o"], *, positive: Positive
) -> Statistic:
    """`detection.average_precision`; ID and OOD examples are resampled each by themselves.

    Raises:
      ConfigError: if `positive` is neither `id` nor `ood`.
      DataError: as `auroc`.
    """
    _check_positive(positive)
    return _detection(
        id_scores, ood_scores, lambda i, o: _average_precision(*_curve(i, o, positive))
    )


def fpr_at_tpr(
    id_scores: Float[np.ndarray, " i"],
    ood_scores: Float[np.ndarray, " o"],
    *,
    positive: Positive,
    tpr: float = 0.95,
) -> Statistic:
    """`detection.fpr_at_tpr`; the ID and the OOD examples are resampled each by themselves.

    Raises:
      ConfigError: if `tpr` is outside [0, 1] or `positive` is neither `id` nor `ood`.
      DataError: as `auroc`.
    """
    selective.check_fraction(tpr, name="tpr")
    _check_positive(positive)
    return _detection(id_scores, ood_scores, lambda i, o: _fpr_at_tpr(*_curve(i, o, positive), tpr))


OfGroups = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _selective(scores: np.ndarray, correct: np.ndarray, of_groups: OfGroups) -> Statistic:
    """Of the counts kept and wrong at each distinct score, the highest first."""
    inputs.check_same_length(scores, correct, names=("scores", "correct"))
    inputs.check_finite(scores, name="scores")
    groups = indicator(np.unique(-scores, return_inverse=True)[1])
    wrong = (~correct).astype(np.float64)

    def of_counts(counts: Counts) -> Values:
        return of_groups(counts @ groups, (counts * wrong) @ groups)

    return Statistic((len(scores),), of_counts)


def _detection(id_scores: np.ndarray, ood_scores: np.ndarray, of_passed: OfGroups) -> Statistic:
    passed_of = _cumulated(id_scores, ood_scores)
    strata = (len(id_scores), len(ood_scores))
    return Statistic(strata, lambda counts: of_passed(*passed_of(counts)))


def _cumulated(
    id_scores: np.ndarray, ood_scores: np.ndarray
) -> Callable[[Counts], tuple[np.ndarray, np.ndarray]]:
    """Of counts the ID and the OOD examples at or below each distinct score, the lowest first."""
    for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores)):
        inputs.check_not_empty(scores, name=name)
        inputs.check_finite(scores, name=name)
    scores = np.concatenate([id_scores, ood_scores])
    order = np.argsort(scores)
    is_id = order < len(id_scores)
    is_last = np.append(np.diff(scores[order]) != 0, True)  # of its ties
    kept = slice(None) if is_last.all() else is_last  # a slice copies nothing

    def of_counts(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
        ordered = counts[:, order]
        num_id = np.cumsum(ordered * is_id, axis=1)[:, kept]
        return num_id, np.cumsum(ordered, axis=1)[:, kept] - num_id

    return of_counts


def _curve(
    num_id: np.ndarray, num_ood: np.ndarray, positive: Positive
) -> tuple[np.ndarray, np.ndarray]:
    """Hits and false alarms at each threshold, from the strictest to the one all pass."""
    if positive == "ood":
        return num_ood, num_id
    return _from_above(num_id), _from_above(num_ood)


def _from_above(cumulated: np.ndarray) -> np.ndarray:
    """The numbers at or above each score, the highest first."""
    below = np.concatenate([np.zeros((len(cumulated), 1)), cumulated[:, :-1]], axis=1)
    return (cumulated[:, -1:] - below)[:, ::-1]


def _auroc(num_id: np.ndarray, num_ood: np.ndarray) -> Values:
    at_score = np.diff(num_ood, prepend=0, axis=1)
    pairs = np.einsum("rg,rg->r", np.diff(num_id, prepend=0, axis=1), num_ood - at_score / 2)
    return pairs / (num_id[:, -1] * num_ood[:, -1])


def _average_precision(hits: np.ndarray, false_alarms: np.ndarray) -> Values:
    precision = ratio(hits, hits + false_alarms)
    return np.einsum("rg,rg->r", np.diff(hits, prepend=0, axis=1), precision) / hits[:, -1]


def _fpr_at_tpr(hits: np.ndarray, false_alarms: np.ndarray, tpr: float) -> Values:
    first = (hits / hits[:, -1:] >= tpr).argmax(axis=1, keepdims=True)
    alarms = np.take_along_axis(false_alarms, first, axis=1)[:, 0]
    return alarms * (tpr > 0) / false_alarms[:, -1]


def _check_positive(positive: str) -> None:
    if positive not in ("id", "ood"):
        raise errors.ConfigError(
            f"positive: got {positive!r}, expected 'id' or 'ood'. Name the class that is detected."
        )
