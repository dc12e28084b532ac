"""Isotonic regression of the probabilities, class by class or of all classes at once."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from sklearn.isotonic import isotonic_regression

from calib_jax.calibrators import checks, one_vs_rest
from calib_jax.core import inputs, numerics


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneVsRestIsotonic:
    """An increasing function of its probability for each class; predictions may change.

    Attributes:
        starts: Where each class's knots begin in the other two, and at last where all end: c + 1.
        knots: Probabilities, increasing within a class.
        values: Frequencies at the knots; linear between them, constant outside.
    """

    starts: Int[np.ndarray, " s"]
    knots: Float[np.ndarray, " k"]
    values: Float[np.ndarray, " k"]

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The normalised frequencies; the model's own probabilities where all are 0."""
        checks.check_fitted(logits, len(self.starts) - 1)
        probs = numerics.softmax(logits)
        frequencies = np.empty_like(probs)
        for k, (start, stop) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            knots, values = self.knots[start:stop], self.values[start:stop]
            frequencies[:, k] = np.interp(probs[:, k], knots, values)
        return one_vs_rest.joined(frequencies, probs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedIsotonic:
    """One strictly increasing function of the probability for all classes; predictions stay.

    Attributes:
        knots: Probabilities, increasing.
        values: Frequencies at the knots; linear between them, constant outside.
    """

    knots: Float[np.ndarray, " k"]
    values: Float[np.ndarray, " k"]

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """`g(p_k) / sum_j g(p_j)` with `g = values + 1e-9 p`."""
        inputs.check_unlabelled(logits, name="logits")
        probs = numerics.softmax(logits)
        return one_vs_rest.joined(np.interp(probs, self.knots, self.values), probs)


@dataclasses.dataclass(kw_only=True)
class IsotonicOneVsRest:
    """Zadrozny and Elkan 2002: isotonic regression of each class against the rest."""

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> OneVsRestIsotonic:
        """The increasing functions with the least squared error; 0 for a class without examples.

        Raises:
            DataError: As `core.inputs.check_matrix`.
        """
        inputs.check_matrix(logits, labels, name="logits")
        fits = [_isotonic(*pair) for pair in one_vs_rest.class_probs(logits, labels)]
        starts = np.cumsum([0, *(len(knots) for knots, _ in fits)])
        knots, values = (np.concatenate(arrays) for arrays in zip(*fits, strict=True))
        return OneVsRestIsotonic(starts=starts, knots=knots, values=values)

    def notes(self, fitted: OneVsRestIsotonic, labels: Int[np.ndarray, " n"]) -> list[str]:
        """Whether classes have no example, whose parameters say nothing then."""
        return checks.notes_on_classes(labels, num_classes=len(fitted.starts) - 1)


@dataclasses.dataclass(kw_only=True)
class MultiIsotonic:
    """IRM of Zhang, Kailkhura and Han 2020 (Mix-n-Match, arXiv 2003.07329)."""

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> SharedIsotonic:
        """The increasing function with the least squared error over all n c pairs.

        A pair is a class probability and whether the class is the label. Sorts all of them,
        so it needs several times the memory of the logits in float64.

        Raises:
            DataError: As `core.inputs.check_matrix`.
        """
        inputs.check_matrix(logits, labels, name="logits")
        hits = labels[:, None] == np.arange(logits.shape[1])
        knots, values = _isotonic(numerics.softmax(logits).ravel(), hits.ravel())
        return SharedIsotonic(knots=knots, values=values)


def _isotonic(probs: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots and values of the regression, of each run of equal values its ends.

    Of distinct probabilities, however close: scikit-learn's estimator merges those within 1e-15,
    among which a confident model keeps most of what it says.
    """
    knots, tie, count = np.unique(probs, return_inverse=True, return_counts=True)
    values = isotonic_regression(np.bincount(tie, weights=hits) / count, sample_weight=count)
    inside = np.zeros(len(knots), np.bool_)
    inside[1:-1] = (values[1:-1] == values[:-2]) & (values[1:-1] == values[2:])
    return knots[~inside], values[~inside]
