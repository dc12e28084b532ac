"""Multinomial logistic regression on whole arrays of features, its penalty chosen on validation."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from calib_jax.core import inputs
from calib_jax.core.errors import ConfigError, DataError, TrainingError
from calib_jax.metrics.outcomes import Outcomes, of_logits


@dataclasses.dataclass(kw_only=True)
class LogisticRegression:
    """Full-batch L-BFGS instead of gradient steps: for a linear head on cached features.

    Attributes:
        l2: Strengths of the penalty, for unit-norm features (see `fit_logistic`); the one with the
            lowest negative log-likelihood on the validation split is kept.
        max_iterations: Of one fit.
        tolerance: A fit has converged when the norm of its gradient is at most this share of the
            objective. At 1e-4 the objective was within 1e-5 of its minimum, relative to it.
    """

    l2: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    max_iterations: int = 1000
    tolerance: float = 1e-4

    def validate(self, num_steps: int) -> None:
        """Raises a ConfigError for a value out of range; any number of steps will do."""
        if not self.l2 or not all(0.0 < strength < math.inf for strength in self.l2):
            raise ConfigError(
                f"l2: got {self.l2}, expected one or more finite numbers > 0. Correct it."
            )
        if self.max_iterations < 1:
            raise ConfigError(
                f"max_iterations: got {self.max_iterations}, expected at least 1. Set 1000."
            )
        if not 0.0 < self.tolerance < math.inf:
            raise ConfigError(
                f"tolerance: got {self.tolerance}, expected a finite number > 0. Set 1e-4."
            )


class LogisticFit(NamedTuple):
    """A minimum of `fit_logistic`'s objective.

    Attributes:
        kernel: Of the logits `features @ kernel + bias`.
        bias: Known up to a constant, which no probability depends on.
        l2: The strength of the penalty.
        objective: Where it stopped, in nats.
        num_iterations: Of L-BFGS.
        converged: Whether it stopped at the tolerance, not at the limit.
    """

    kernel: Float[Array, "d c"]
    bias: Float[Array, " c"]
    l2: float
    objective: float
    num_iterations: int
    converged: bool


class Candidate(NamedTuple):
    """A fit and what it is worth on the validation split: mean nats, and a share in 0..1."""

    fit: LogisticFit
    validation_nll: float
    validation_accuracy: float


def fit_logistic(
    features: Float[Array | np.ndarray, "n d"],
    labels: Int[Array | np.ndarray, " n"],
    *,
    l2: float,
    start: tuple[Float[Array, "d c"], Float[Array, " c"]],
    max_iterations: int,
    tolerance: float,
) -> LogisticFit:
    """The multinomial logistic regression `mean_i CE_i + l2 / 2 ||kernel||_F^2`.

    The bias is not penalised. The same minimum as scikit-learn's at `C = 1 / (n l2)`. The kernel
    does not depend on the start; the bias of a class without examples falls until its gradient is
    within the tolerance. In float32, by L-BFGS (10 pairs, zoom line search) in coordinates in which
    the features have mean zero and mean squared norm one. The minimum stays where it is, and the
    iterations are fewer (on scikit-learn's digits, unit-norm, at l2 = 1e-5: 76 instead of 182).

    Args:
        features: As the classifier sees them; unit-norm for a `LinearHead`.
        labels: Classes in [0, c).
        l2: Strength of the penalty.
        start: Kernel and bias.
        max_iterations: Stops it.
        tolerance: Stops it when the gradient's norm, in those coordinates, is at most this share
            of the objective.

    Raises:
        TrainingError: The objective is not finite.
    """
    kernel, bias, *measured = _minimize(features, labels, start, l2, max_iterations, tolerance)
    objective, norm, count = (float(number) for number in measured)
    if not math.isfinite(objective + norm):
        raise TrainingError(
            f"logistic regression: got an objective of {objective} and a gradient of norm {norm} "
            f"at l2={l2}, expected finite numbers. Look at the features and labels."
        )
    return LogisticFit(
        kernel=kernel,
        bias=bias,
        l2=l2,
        objective=objective,
        num_iterations=int(count),
        converged=norm <= tolerance * objective,
    )


def choose_logistic(
    settings: LogisticRegression,
    train: tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]],
    validation: tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]],
    *,
    num_classes: int,
    outcomes: Callable[[Float[np.ndarray, "m c"]], Outcomes] | None = None,
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The fit with the lowest validation NLL, and all fits of the grid, strongest penalty first.

    The first fit starts from zero, each further one from the last.

    Args:
        settings: The grid, and when a fit stops.
        train: Features as `fit_logistic` takes them, and labels.
        validation: The same of the split that decides.
        num_classes: Of the head; some may have no examples.
        outcomes: What comes of the validation split's logits, where its data set has other classes
            than the head; None: over all classes.

    Raises:
        DataError: No examples, a label outside [0, num_classes), or validation features that are
            not finite.
        TrainingError: As `fit_logistic`.
    """
    _check(*train, num_classes)
    features, labels = map(jnp.asarray, train)
    start = (jnp.zeros((features.shape[1], num_classes)), jnp.zeros(num_classes))
    candidates: list[Candidate] = []
    for l2 in sorted(settings.l2, reverse=True):
        fit = fit_logistic(
            features,
            labels,
            l2=l2,
            start=start,
            max_iterations=settings.max_iterations,
            tolerance=settings.tolerance,
        )
        logits = validation[0] @ np.asarray(fit.kernel) + np.asarray(fit.bias)
        found = of_logits(logits, validation[1]) if outcomes is None else outcomes(logits)
        candidates.append(Candidate(fit, float(found.nll.mean()), float(found.correct.mean())))
        start = (fit.kernel, fit.bias)
    return min(candidates, key=lambda candidate: candidate.validation_nll), tuple(candidates)


@jax.jit
def _minimize(
    features: Array, labels: Array, start: Any, l2: Array, max_iterations: Array, tolerance: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Kernel, bias, objective, norm of the gradient and iterations; all settings are traced.

    One compilation serves every l2 of a grid.
    """
    # A change of variables that leaves the minimum where it is, as the bias has no penalty.
    features = features.astype(jnp.float32)
    mean = jnp.mean(features, axis=0)
    centred = features - mean
    spread = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(centred), axis=1)))
    # Equal rows: what is left of them is rounding.
    spread = jnp.where(spread > 1e-6 * jnp.linalg.norm(mean), spread, 1.0)
    value = partial(
        _objective, features=centred / spread, labels=labels, l2=l2 / jnp.square(spread)
    )
    tx = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(value)

    def measured(opt_state: Any) -> tuple[Array, Array, Array]:
        objective, gradient, count = (
            optax.tree.get(opt_state, name) for name in ("value", "grad", "count")
        )
        return objective, optax.tree.norm(gradient), count

    def is_open(carry: Any) -> Array:
        objective, norm, count = measured(carry[1])
        # Before the first iteration the state holds no gradient.
        return (count == 0) | ((norm > tolerance * objective) & (count < max_iterations))

    def iterate(carry: Any) -> Any:
        params, opt_state = carry
        objective, gradient = value_and_grad(params, state=opt_state)
        updates, opt_state = tx.update(
            gradient, opt_state, params, value=objective, grad=gradient, value_fn=value
        )
        return optax.apply_updates(params, updates), opt_state

    params = (start[0] * spread, start[1] + _matmul(mean, start[0]))
    params, opt_state = jax.lax.while_loop(is_open, iterate, (params, tx.init(params)))
    kernel = params[0] / spread
    bias = params[1] - _matmul(mean, kernel)
    return kernel, bias, *measured(opt_state)


def _objective(params: Any, *, features: Array, labels: Array, l2: Array) -> Array:
    kernel, bias = params
    log_probs = jax.nn.log_softmax(_matmul(features, kernel) + bias, axis=-1)
    own = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)
    return l2 / 2.0 * jnp.sum(jnp.square(kernel)) - jnp.mean(own)


_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _check(features: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    inputs.check_same_length(features, labels, names=("features", "labels"))
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"labels: got {labels[row]} at [{row}], expected a class in [0, {num_classes}). "
            "Number the labels like the head's columns."
        )
