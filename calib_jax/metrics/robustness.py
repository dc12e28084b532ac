"""Summaries over distribution shifts, and robustness beyond what ID accuracy predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.special
from jaxtyping import Float

from calib_jax.core import errors, inputs

Scale = Literal["logit", "probit"]


class MeanAndWorst(NamedTuple):
    """The plain mean over shifts, the worst value, and the shift it belongs to."""

    mean: float
    worst: float
    worst_name: str


def mean_and_worst(values: Mapping[str, float], *, higher_is_better: bool) -> MeanAndWorst:
    """Mean and worst of one number over named shifts, each counting the same.

    The first name wins a tie for the worst.

    Raises:
      DataError: for no value, NaN or infinity.
    """
    if not values:
        raise errors.DataError(
            "values: got no shift, expected at least 1. Name the shifts of the evaluation."
        )
    for name, value in values.items():
        if not np.isfinite(value):
            raise errors.DataError(
                f"values: got {value} for {name!r}, expected a finite number. "
                "Find the split that made it."
            )
    worst = (min if higher_is_better else max)(values, key=values.__getitem__)
    return MeanAndWorst(float(np.mean(list(values.values()))), float(values[worst]), worst)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """The line `scale(OOD accuracy) = intercept + slope scale(ID accuracy)` of some models.

    Attributes:
      slope: of the line; 1 is an OOD accuracy that rises with the ID one.
      intercept: in units of the scale.
      scale: `logit` (Taori et al. 2020) or `probit` (Miller et al. 2021).
    """

    slope: float
    intercept: float
    scale: Scale

    def ood_accuracy(self, id_accuracy: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The OOD accuracies, in [0, 1], that the line predicts; at 0 and 1 its limits.

        Raises:
          DataError: for an accuracy outside [0, 1].
        """
        _check_closed(id_accuracy, name="id_accuracy")
        scaled = scipy.special.logit if self.scale == "logit" else scipy.special.ndtri
        # A slope of 0 has no limits: 0 times infinity.
        rise = self.slope * scaled(id_accuracy) if self.slope else np.zeros(len(id_accuracy))
        line = self.intercept + rise
        return scipy.special.expit(line) if self.scale == "logit" else scipy.special.ndtr(line)


def accuracy_trend(
    id_accuracy: npt.ArrayLike,
    ood_accuracy: npt.ArrayLike,
    *,
    scale: Scale = "logit",
) -> Trend:
    """The least-squares line through the accuracies [n] of baseline models, on a scale of (0, 1).

    A baseline is a model that was trained without a robustness intervention or extra data. On the
    logit or probit scale the accuracies of such models are close to a line (Taori et al. 2020;
    Miller et al. 2021).

    Raises:
      ConfigError: if `scale` is neither of the two.
      DataError: for fewer than two models, an accuracy outside (0, 1), or ID accuracies that do
        not vary.
    """
    if scale not in ("logit", "probit"):
        raise errors.ConfigError(
            f"scale: got {scale!r}, expected 'logit' or 'probit'. Use 'logit' as Taori et al. do."
        )
    ids, oods = np.asarray(id_accuracy, np.float64), np.asarray(ood_accuracy, np.float64)
    inputs.check_same_length(ids, oods, names=("id_accuracy", "ood_accuracy"))
    x = _scaled(ids, scale, name="id_accuracy")
    y = _scaled(oods, scale, name="ood_accuracy")
    if np.ptp(x) == 0:
        raise errors.DataError(
            f"id_accuracy: got {ids[0]:.6g} for all of {len(x)} baseline models, expected "
            "at least two values. Compare with models that differ."
        )
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return Trend(slope=slope, intercept=float(y.mean() - slope * x.mean()), scale=scale)


@inputs.takes_lists
def effective_robustness(
    id_accuracy: Float[np.ndarray, " n"], ood_accuracy: Float[np.ndarray, " n"], *, trend: Trend
) -> Float[np.ndarray, " n"]:
    """OOD accuracy above what the baselines' line predicts from the ID accuracy, in [-1, 1].

    `rho(f) = acc_ood(f) - beta(acc_id(f))` with `beta` the `trend` (Taori et al. 2020):
    a fraction, as the accuracies are; 0.05 is five points more than a baseline model of the same
    ID accuracy. Without a baseline it is not defined: ID accuracy alone moves OOD accuracy.

    Raises:
      DataError: for mismatched shapes or an accuracy outside [0, 1].
    """
    inputs.check_same_length(id_accuracy, ood_accuracy, names=("id_accuracy", "ood_accuracy"))
    _check_closed(ood_accuracy, name="ood_accuracy")
    return ood_accuracy - trend.ood_accuracy(id_accuracy)


def _scaled(accuracy: np.ndarray, scale: Scale, *, name: str) -> np.ndarray:
    _check_range(accuracy, (accuracy > 0) & (accuracy < 1), "above 0 and below 1", name=name)
    return scipy.special.logit(accuracy) if scale == "logit" else scipy.special.ndtri(accuracy)


def _check_closed(accuracy: np.ndarray, *, name: str) -> None:
    _check_range(accuracy, (accuracy >= 0) & (accuracy <= 1), "from 0 to 1", name=name)


def _check_range(accuracy: np.ndarray, is_inside: np.ndarray, words: str, *, name: str) -> None:
    if not is_inside.all():
        row = int(np.argmin(is_inside))
        raise errors.DataError(
            f"{name}: got {accuracy[row]} at [{row}], expected a fraction {words}. "
            "Divide percents by 100; leave baselines out that are always or never right."
        )
