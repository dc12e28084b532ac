"""A mixture of tempered, raw and uniform probabilities."""

import dataclasses
import math

import numpy as np
import scipy.optimize
from jaxtyping import Float, Int

from calib_jax.calibrators.temperature import Temperature, TemperatureScaling
from calib_jax.core import inputs, numerics
from calib_jax.core.errors import ConfigError

_FLOOR = 1e-9  # of a weight: predictions stay, and no label has probability 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemperatureEnsemble:
    """The mixture `w_0 softmax(l / T) + w_1 softmax(l) + w_2 / c`; predictions stay.

    Attributes:
        temperature: T.
        weights: w, on the simplex.
    """

    temperature: float
    weights: Float[np.ndarray, " 3"]

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The probabilities of the mixture."""
        inputs.check_unlabelled(logits, name="logits")
        mixture = numerics.softmax(logits.astype(np.float64) / self.temperature)
        mixture *= self.weights[0]
        mixture += self.weights[1] * numerics.softmax(logits)
        mixture += self.weights[2] / logits.shape[1]
        return mixture


@dataclasses.dataclass(kw_only=True)
class EnsembleTemperatureScaling:
    """ETS of Zhang, Kailkhura and Han 2020 (Mix-n-Match, arXiv 2003.07329).

    Attributes:
        temperature: How T is found, first and by itself.
    """

    temperature: TemperatureScaling = dataclasses.field(default_factory=TemperatureScaling)

    def validate(self) -> None:
        """Raises a ConfigError for a bound of the temperature, as `TemperatureScaling` does."""
        try:
            self.temperature.validate()
        except ConfigError as error:
            raise ConfigError(f"temperature.{error}") from None

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> TemperatureEnsemble:
        """The weights with the lowest negative log-likelihood, for the best temperature.

        Convex in the weights; never worse on the split than the temperature alone, up to the
        1e-9 that every part keeps. The likelihood needs three numbers an example.

        Raises:
            ConfigError: As `TemperatureScaling.fit`.
            DataError: As `core.inputs.check_matrix`.
        """
        self.validate()
        temperature = self.temperature.fit(logits, labels).temperature
        parts = np.stack(
            [
                _label_log_probs(logits, labels, temperature),
                _label_log_probs(logits, labels, 1.0),
                np.full(len(labels), -math.log(logits.shape[1])),
            ],
            axis=1,
        )
        return TemperatureEnsemble(temperature=temperature, weights=_mixture_weights(parts))

    def notes(self, fitted: TemperatureEnsemble, labels: Int[np.ndarray, " n"]) -> list[str]:
        """As of its temperature alone."""
        return self.temperature.notes(Temperature(temperature=fitted.temperature), labels)


def _label_log_probs(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    below = logits[np.arange(len(labels)), labels].astype(np.float64) - logits.max(axis=1)
    sums = numerics.sum_exp_from_max(logits, temperature=temperature)
    return below / temperature - np.log(sums)


def _mixture_weights(log_parts: np.ndarray) -> np.ndarray:
    """The w on the simplex that maximises `mean_i log sum_k w_k exp(log_parts_ik)`."""
    # A constant an example changes no minimum; a row's largest part is 1 then, never 0.
    parts = np.exp(log_parts - log_parts.max(axis=1, keepdims=True))

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = parts @ weights
        return -np.log(mixture).mean(), -(parts / mixture[:, None]).mean(axis=0)

    start = np.array([1 - 2e-2, 1e-2, 1e-2])
    found = scipy.optimize.minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(_FLOOR, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    weights = np.maximum(found.x, _FLOOR)
    alone = np.array([1 - 2 * _FLOOR, _FLOOR, _FLOOR])
    return min(weights / weights.sum(), alone, key=lambda w: objective(w)[0])
