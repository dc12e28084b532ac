"""Selective prediction: the risk of the predictions that a classifier keeps.

Scores are HIGHER = MORE LIKELY CORRECT: confidence, or any other. A threshold keeps the examples
at or above it, so equal scores are kept together. Sort once with `risk_coverage`; every number
is a function of its curve.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.core import errors, inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """What each threshold keeps, from the strictest to the one that keeps all.

    Attributes:
      threshold: the g distinct scores, descending.
      num_kept: examples with a score of at least the threshold.
      num_wrong: how many of them are wrong.
    """

    threshold: Float[np.ndarray, " g"]
    num_kept: Int[np.ndarray, " g"]
    num_wrong: Int[np.ndarray, " g"]

    @property
    def coverage(self) -> Float[np.ndarray, " g"]:
        """The fraction kept, in (0, 1]."""
        return self.num_kept / self.num_kept[-1]

    @property
    def risk(self) -> Float[np.ndarray, " g"]:
        """The fraction wrong among the kept, in [0, 1]."""
        return self.num_wrong / self.num_kept


@inputs.takes_lists
def risk_coverage(scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> RiskCoverage:
    """The risk-coverage curve, one point per distinct score (El-Yaniv and Wiener 2010).

    Raises:
      DataError: for an empty split, mismatched shapes, NaN or infinity.
    """
    inputs.check_same_length(scores, correct, names=("scores", "correct"))
    inputs.check_finite(scores, name="scores")
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1)
    return RiskCoverage(
        threshold=ordered[last], num_kept=last + 1, num_wrong=np.cumsum(~correct[order])[last]
    )


def aurc(curve: RiskCoverage) -> float:
    """Area under the risk-coverage curve, in [0, 1]; lower is better.

    `1/n sum_i risk(score_i)`: the risk at the threshold of every example in turn, averaged
    (Geifman et al. 2019). It weighs an error the more, the higher its score.
    """
    return float(np.diff(curve.num_kept, prepend=0) @ curve.risk / curve.num_kept[-1])


def excess_aurc(curve: RiskCoverage) -> float:
    """AURC above that of the best order of the same errors, in [0, 1) (Geifman et al. 2019).

    The best order puts all k errors last: `1/n sum_{i=1}^{k} i / (n - k + i)`, the exact form of
    the paper's `r + (1 - r) log(1 - r)` for the error rate r.
    """
    total, wrong = int(curve.num_kept[-1]), int(curve.num_wrong[-1])
    ranks = np.arange(1, wrong + 1)
    return aurc(curve) - float((ranks / (total - wrong + ranks)).sum() / total)


def augrc(curve: RiskCoverage) -> float:
    """Area under the generalised risk-coverage curve, in [0, 1/2]; lower is better.

    The generalised risk of a threshold is the fraction of all examples that are wrong AND kept.
    Its mean over coverage, by trapezoids from (0, 0), is the average risk of a failure that goes
    undetected (Traub et al. 2024). `(1 - AUROC) a (1 - a) + (1 - a)^2 / 2` for the accuracy a.
    """
    num_kept, num_wrong = curve.num_kept, curve.num_wrong
    # Twice the area in integers: exact up to 10^9 examples.
    kept, wrong = np.diff(num_kept, prepend=0), np.diff(num_wrong, prepend=0)
    return float(kept @ (2 * num_wrong - wrong) / (2 * num_kept[-1] ** 2))


def risk_at_coverage(curve: RiskCoverage, *, coverage: float) -> float:
    """Fraction wrong among the kept, in [0, 1], at the strictest threshold with that coverage.

    At least `coverage` of the examples are kept, and more where the threshold has a tie.

    Raises:
      ConfigError: if `coverage` is outside [0, 1].
    """
    check_fraction(coverage, name="coverage")
    # 55 / 100 is the double 0.55, but 0.55 * 100 is above 55: divide, do not multiply.
    return float(curve.risk[np.argmax(curve.coverage >= coverage)])


def coverage_at_risk(curve: RiskCoverage, *, risk: float) -> float:
    """Largest coverage, in [0, 1], at which the fraction wrong is at most `risk`; 0 if none.

    Raises:
      ConfigError: if `risk` is outside [0, 1].
    """
    check_fraction(risk, name="risk")
    return float(curve.coverage[curve.risk <= risk].max(initial=0))


def check_fraction(value: float, *, name: str) -> None:
    """Raises a ConfigError unless the value is in [0, 1].

    Raises:
      ConfigError: naming it.
    """
    if not 0 <= value <= 1:
        raise errors.ConfigError(
            f"{name}: got {value}, expected a fraction in [0, 1]. Divide a percentage by 100."
        )
