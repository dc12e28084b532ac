"""One temperature for all logits."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from calib_jax.calibrators import checks
from calib_jax.core import inputs, numerics
from calib_jax.core.errors import ConfigError

_MAX_STEPS = 200
_TOLERANCE, _ROUNDING = 1e-12, 1e-9  # relative


@dataclasses.dataclass(frozen=True, kw_only=True)
class Temperature:
    """Logits divided by one number: sharper below 1, softer above; predictions stay.

    Attributes:
        temperature: Above 0.
    """

    temperature: float

    def logits(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The logits `l / T` in float64."""
        inputs.check_unlabelled(logits, name="logits")
        return logits.astype(np.float64) / self.temperature

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The probabilities `softmax(l / T)`."""
        return numerics.softmax(self.logits(logits))


@dataclasses.dataclass(kw_only=True)
class TemperatureScaling:
    """Guo et al. 2017, section 4.2: the temperature with the lowest negative log-likelihood.

    Attributes:
        lowest: The temperature where every label has the largest logit: the minimum is at 0 then.
        highest: The temperature where the logits say less than a constant: it is at infinity then.
    """

    lowest: float = 1e-3
    highest: float = 1e3

    def validate(self) -> None:
        """Raises a ConfigError for bounds that are not `0 < lowest <= highest < inf`."""
        checks.check_positive(self.lowest, name="lowest")
        if not self.lowest <= self.highest < math.inf:
            raise ConfigError(
                f"highest: got {self.highest}, expected a finite number >= lowest={self.lowest}. "
                "Correct it."
            )

    def fit(self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> Temperature:
        """The minimum of `mean_i -log softmax(l_i / T)_{y_i}` over `[lowest, highest]`.

        Convex in `s = 1 / T`, with slope `mean_i E_p[l] - l_y` and curvature `mean_i Var_p[l]`:
        Newton steps, or halves of a bracket, to a relative 1e-12. Logits that are constant in every
        row give 1 (or the bound next to it). One pass over the logits a step, in blocks of rows.

        Raises:
            ConfigError: Bounds that are not `0 < lowest <= highest < inf`.
            DataError: As `core.inputs.check_matrix`.
        """
        self.validate()
        inputs.check_matrix(logits, labels, name="logits")
        bounds = (1 / self.highest, 1 / self.lowest)
        return Temperature(temperature=1 / _best_scale(logits, labels, bounds))

    def notes(self, fitted: Temperature, labels: Int[np.ndarray, " n"]) -> list[str]:
        """Whether the temperature ended at a bound, beyond which the minimum is."""
        ends = (
            ("lowest", self.lowest, "the largest logit is right in every example"),
            ("highest", self.highest, "the logits say nothing about the labels"),
        )
        return [
            f"the temperature ended at its {end}, {bound:g}, as where {reason}"
            for end, bound, reason in ends
            if math.isclose(fitted.temperature, bound, rel_tol=_TOLERANCE)
        ]


def _best_scale(logits: np.ndarray, labels: np.ndarray, bounds: tuple[float, float]) -> float:
    low, high = bounds
    (at_low, _), (at_high, _) = (_derivatives(logits, labels, end) for end in bounds)
    scale, step = min(max(1.0, low), high), math.inf
    if at_low == at_high == 0:  # logits that are constant in every row
        return scale
    if at_low >= 0 or at_high <= 0:
        return low if at_low >= 0 else high
    for _ in range(_MAX_STEPS):
        slope, curvature = _derivatives(logits, labels, scale)
        if slope == 0:
            return scale
        low, high = (scale, high) if slope < 0 else (low, scale)
        newton = scale - slope / curvature if curvature > 0 else math.inf
        newton = min(max(newton, low), high)
        # Where all probabilities are near 0 or 1 the steps are many and equal, or overshoot. A step
        # that is small and no smaller than the last is rounding.
        is_shrinking = abs(newton - scale) <= step / 2 and newton not in (low, high)
        is_rounding = abs(newton - scale) <= _ROUNDING * scale
        proposal = newton if is_shrinking or is_rounding else math.sqrt(low * high)
        step = abs(proposal - scale)
        if step <= _TOLERANCE * scale or (is_rounding and not is_shrinking):
            return proposal
        scale = proposal
    return scale


def _derivatives(logits: np.ndarray, labels: np.ndarray, scale: float) -> tuple[float, float]:
    """Slope and curvature of the mean negative log-likelihood in `scale`."""
    slope = curvature = 0.0
    for rows in numerics.row_blocks(*logits.shape):
        below = logits[rows].astype(np.float64)
        below -= below.max(axis=1, keepdims=True)
        weighted = np.exp(scale * below)
        total = weighted.sum(axis=1)
        weighted *= below
        mean = weighted.sum(axis=1) / total
        weighted *= below
        slope += float((mean - below[np.arange(len(below)), labels[rows]]).sum())
        curvature += float((weighted.sum(axis=1) / total - mean**2).sum())
    return slope / len(logits), curvature / len(logits)
