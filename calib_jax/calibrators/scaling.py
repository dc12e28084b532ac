"""Affine maps of the logits: vector, matrix and Dirichlet scaling."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.optimize
from jaxtyping import Float, Int

from calib_jax.calibrators import checks
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core import inputs, numerics

# To 1e-8 nats: SciPy's default, 1e-5, stops up to 1e-2 above the minimum.
_GRADIENT_TOLERANCE = 1e-9
# Of steps that L-BFGS remembers; of many parameters as many as SciPy, for memory.
_NUM_PAIRS, _SMALL = 30, 100_000

_Penalty = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffineMap:
    """The logits `w_k l_k + b_k`, or `W l + b`.

    Attributes:
        weight: w, or W with a row for each class to be.
        bias: b, known up to a constant.
    """

    weight: Float[np.ndarray, " c"] | Float[np.ndarray, "c c"]
    bias: Float[np.ndarray, " c"]

    def logits(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The mapped logits in float64."""
        checks.check_fitted(logits, len(self.bias))
        return _affine(logits.astype(np.float64), self.weight, self.bias)

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Their softmax."""
        return numerics.softmax(self.logits(logits))


class DirichletMap(AffineMap):
    """The logits `W log softmax(l) + b`: also for models that give probabilities only."""

    def logits(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The mapped log-probabilities in float64."""
        checks.check_fitted(logits, len(self.bias))
        return _affine(numerics.log_softmax(logits), self.weight, self.bias)


@dataclasses.dataclass(kw_only=True)
class VectorScaling:
    """Guo et al. 2017, section 4.2, with a penalty on the bias; 2 c numbers.

    Attributes:
        intercept: Strength of `mean_k b_k^2`; at 0 the bias of a class without examples falls
            until its gradient is within the tolerance.
        max_iterations: Of L-BFGS.
    """

    intercept: float = 1e-3
    max_iterations: int = 1000

    def validate(self) -> None:
        """Raises a ConfigError for a strength below 0 or infinite, or no iteration."""
        checks.check_not_negative(self.intercept, name="intercept")
        checks.check_count(self.max_iterations, name="max_iterations")

    def fit(self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> AffineMap:
        """The minimum of `NLL + intercept mean_k b_k^2`, convex.

        It starts from temperature scaling, so it is never worse on the split. An iteration is
        about one pass over the logits, in blocks of rows.

        Raises:
            ConfigError: A negative or infinite strength, or no iteration.
            DataError: As `core.inputs.check_matrix`.
        """
        self.validate()
        inputs.check_matrix(logits, labels, name="logits")
        penalty = _odir(0.0, self.intercept)
        identity = np.ones(logits.shape[1])
        weight, bias = _fit(logits, labels, identity, penalty, max_iterations=self.max_iterations)
        return AffineMap(weight=weight, bias=bias)

    def notes(self, fitted: AffineMap, labels: Int[np.ndarray, " n"]) -> list[str]:
        """Whether classes have no example, whose parameters say nothing then."""
        return checks.notes_on_classes(labels, num_classes=len(fitted.bias))


@dataclasses.dataclass(kw_only=True)
class MatrixScaling:
    """Guo et al. 2017, section 4.2, regularised by ODIR (Kull et al. 2019); c^2 + c numbers.

    An iteration takes 2 c^2 n multiplications. At c = 1000 it fits a million numbers, usually to
    fewer examples: use `VectorScaling` there.

    Attributes:
        off_diagonal: Strength of `sum_{i != j} W_ij^2 / (c (c - 1))`.
        intercept: Strength of `mean_k b_k^2`. Choose both on a further split.
        max_iterations: Of L-BFGS.
    """

    off_diagonal: float = 1.0
    intercept: float = 1e-3
    max_iterations: int = 1000

    def validate(self) -> None:
        """Raises a ConfigError for a strength below 0 or infinite, or no iteration."""
        checks.check_not_negative(self.off_diagonal, name="off_diagonal")
        checks.check_not_negative(self.intercept, name="intercept")
        checks.check_count(self.max_iterations, name="max_iterations")

    def fit(self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> AffineMap:
        """The minimum of `NLL + ODIR`, convex; normalised as in the code of Kull et al.

        It starts from temperature scaling, which ODIR does not penalise, so it is never worse on
        the split.

        Raises:
            ConfigError: A negative or infinite strength, or no iteration.
            DataError: As `core.inputs.check_matrix`.
        """
        self.validate()
        inputs.check_matrix(logits, labels, name="logits")
        penalty = _odir(self.off_diagonal, self.intercept)
        identity = np.eye(logits.shape[1])
        weight, bias = _fit(logits, labels, identity, penalty, max_iterations=self.max_iterations)
        return AffineMap(weight=weight, bias=bias)

    def notes(self, fitted: AffineMap, labels: Int[np.ndarray, " n"]) -> list[str]:
        """Whether classes have no example, whose parameters say nothing then."""
        return checks.notes_on_classes(labels, num_classes=len(fitted.bias))


class DirichletScaling(MatrixScaling):
    """Kull et al. 2019 (arXiv 1910.12656): `MatrixScaling` of log-probabilities, at its cost."""

    def fit(self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> DirichletMap:
        """The minimum of `NLL + ODIR` over maps of `log softmax(l)`; as `MatrixScaling.fit`.

        Raises:
            ConfigError: A negative or infinite strength, or no iteration.
            DataError: As `core.inputs.check_matrix`.
        """
        inputs.check_matrix(logits, labels, name="logits")
        fitted = super().fit(numerics.log_softmax(logits), labels)
        return DirichletMap(weight=fitted.weight, bias=fitted.bias)


def _odir(off_diagonal: float, intercept: float) -> _Penalty:
    """Off-diagonal and intercept regularisation: its value and its gradients."""

    def penalty(weight: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        num_classes = len(bias)
        off = np.zeros_like(weight) if weight.ndim == 1 else weight - np.diag(np.diag(weight))
        by_weight = off_diagonal / max(1, num_classes * (num_classes - 1)) * off
        by_bias = intercept / num_classes * bias
        return float((by_weight * off).sum() + by_bias @ bias), 2 * by_weight, 2 * by_bias

    return penalty


def _fit(
    logits: np.ndarray,
    labels: np.ndarray,
    identity: np.ndarray,
    penalty: _Penalty,
    *,
    max_iterations: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The weight, shaped like `identity`, and the bias that minimise NLL + penalty.

    By L-BFGS in coordinates in which the logits have mean zero and the best temperature. CLIP's
    logits are all near one large number, which would tie the bias to the weight.
    """
    scale = 1 / TemperatureScaling().fit(logits, labels).temperature
    mean = logits.mean(axis=0, dtype=np.float64)

    def unpack(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = scale * params[: identity.size].reshape(identity.shape)
        return weight, params[identity.size :] - _affine(mean, weight, 0.0)

    def objective(params: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = unpack(params)
        nll, by_weight, by_bias = _likelihood(logits, labels, weight, bias)
        penalised, more_by_weight, more_by_bias = penalty(weight, bias)
        by_bias = by_bias + more_by_bias
        through_bias = by_bias * mean if identity.ndim == 1 else np.outer(by_bias, mean)
        by_params = scale * (by_weight + more_by_weight - through_bias)
        return nll + penalised, np.concatenate([by_params.ravel(), by_bias])

    found = scipy.optimize.minimize(
        objective,
        np.concatenate([identity.ravel(), scale * mean]),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": max_iterations,
            "maxfun": 2 * max_iterations,
            "ftol": 1e-15,
            "gtol": _GRADIENT_TOLERANCE,
            "maxcor": _NUM_PAIRS if identity.size <= _SMALL else 10,
        },
    )
    return unpack(found.x)


def _likelihood(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean negative log-likelihood of the mapped logits and its gradients."""
    nll, by_weight, by_bias = 0.0, np.zeros_like(weight), np.zeros_like(bias)
    for rows in numerics.row_blocks(*logits.shape):
        block = logits[rows].astype(np.float64)
        log_probs = numerics.log_softmax(_affine(block, weight, bias))
        own = (np.arange(len(block)), labels[rows])
        nll -= float(log_probs[own].sum())
        residual = np.exp(log_probs, out=log_probs)
        residual[own] -= 1
        by_weight += (residual * block).sum(axis=0) if weight.ndim == 1 else residual.T @ block
        by_bias += residual.sum(axis=0)
    return nll / len(logits), by_weight / len(logits), by_bias / len(logits)


def _affine(logits: np.ndarray, weight: np.ndarray, bias: np.ndarray | float) -> np.ndarray:
    """`w l + b` of a vector w, or `W l + b` of a matrix."""
    return (logits * weight if weight.ndim == 1 else logits @ weight.T) + bias
