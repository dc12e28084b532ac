"""Split conformal prediction: sets of classes that hold the label with a chosen probability."""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.calibrators import checks
from calib_jax.core import inputs, numerics
from calib_jax.core.errors import ConfigError, DataError


@runtime_checkable
class Nonconformity(Protocol):
    """How little a class conforms to an example."""

    def scores(
        self, probs: Float[np.ndarray, "n c"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n c"]:
        """The score of every class; the classes of the lowest make the set."""


@dataclasses.dataclass(kw_only=True)
class LeastAmbiguous:
    """THR, also LAC: `1 - p_k` (Sadinle, Lei and Wasserman 2019): the smallest sets on average."""

    def scores(
        self, probs: Float[np.ndarray, "n c"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n c"]:
        """The score `1 - p_k`, in [0, 1]."""
        return 1 - probs


@dataclasses.dataclass(kw_only=True)
class Adaptive:
    """APS (Romano, Sesia and Candes 2020); with a penalty, RAPS (Angelopoulos et al. 2021).

    Attributes:
        randomized: Coverage is exact up to `1 / (n + 1)` then, and a set may be empty; without,
            the sets are larger.
        penalty: RAPS's lambda for every rank beyond `free_ranks`; 0 makes it APS. Angelopoulos et
            al. choose both on a further split.
        free_ranks: RAPS's k_reg.
    """

    randomized: bool = True
    penalty: float = 0.0
    free_ranks: int = 0

    def validate(self) -> None:
        """Raises a ConfigError for a negative penalty or number of ranks."""
        checks.check_not_negative(self.penalty, name="penalty")
        checks.check_not_negative(self.free_ranks, name="free_ranks")

    def scores(
        self, probs: Float[np.ndarray, "n c"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n c"]:
        """`sum_{j before k} p_j + u p_k + lambda max(0, rank_k - k_reg)`, rank 1 the most probable.

        u is uniform in [0, 1) and one an example if randomised, else 1. Classes of one
        probability are ranked in their order. arXiv 2009.14193, section 2, from memory; the
        authors' code multiplies the last class's penalty by u as well.

        Raises:
            ConfigError: A negative penalty or number of ranks.
        """
        self.validate()
        order = np.argsort(-probs, axis=1, kind="stable")
        ranked = np.take_along_axis(probs, order, axis=1)
        share = rng.random((len(probs), 1)) if self.randomized else 1.0
        ranked_scores = np.cumsum(ranked, axis=1) - (1 - share) * ranked
        beyond = np.arange(1, probs.shape[1] + 1) - self.free_ranks
        ranked_scores += self.penalty * np.maximum(beyond, 0)
        scores = np.empty_like(ranked_scores)
        np.put_along_axis(scores, order, ranked_scores, axis=1)
        return scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionSets:
    """The classes whose score is at most a threshold.

    Attributes:
        score: As in the fit.
        threshold: The conformal quantile of the labels' scores.
        seed: Of the randomised scores: the same logits always have the same sets.
    """

    score: Nonconformity
    threshold: float
    seed: int

    def sets(self, logits: Float[np.ndarray, "n c"]) -> Bool[np.ndarray, "n c"]:
        """Whether each class is in the set; in blocks of rows."""
        inputs.check_unlabelled(logits, name="logits")
        rng = np.random.default_rng([self.seed, 1])
        sets = np.empty(logits.shape, bool)
        for rows in numerics.row_blocks(*logits.shape):
            scores = self.score.scores(numerics.softmax(logits[rows]), rng)
            sets[rows] = scores <= self.threshold
        return sets


@dataclasses.dataclass(kw_only=True)
class SplitConformal:
    """Sets that hold the label with probability at least `1 - alpha`, whatever the model.

    On average over calibration and test examples, if they are exchangeable: not under shift, and
    not for each class or size alone.

    Attributes:
        alpha: Share of labels that may be missed, in (0, 1).
        score: THR, APS or RAPS.
        seed: Of the randomised scores.
    """

    alpha: float = 0.1
    score: Nonconformity = dataclasses.field(default_factory=LeastAmbiguous)
    seed: int = 0

    def validate(self) -> None:
        """Raises a ConfigError for an alpha outside (0, 1), a negative seed, or a wrong score."""
        if not 0 < self.alpha < 1:
            raise ConfigError(
                f"alpha: got {self.alpha}, expected a share in (0, 1). Set 0.1 for sets that hold "
                "90 % of the labels."
            )
        checks.check_not_negative(self.seed, name="seed")
        checks.check_settings({"score": self.score}, where="")

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> PredictionSets:
        """The threshold: the `ceil((n + 1) (1 - alpha))`-th smallest score of the labels.

        The logits may be those of a calibrator that was fitted on another split.

        Raises:
            ConfigError: An alpha outside (0, 1), or a setting of the score.
            DataError: As `core.inputs.check_matrix`, and for fewer than `(1 - alpha) / alpha`
                examples.
        """
        self.validate()
        inputs.check_matrix(logits, labels, name="logits")
        num_examples = len(labels)
        # Rounded: 10 * (1 - 0.1) must not become a little more than 9.
        rank = math.ceil(round((num_examples + 1) * (1 - self.alpha), 9))
        if rank > num_examples:
            fewest = math.ceil(round((1 - self.alpha) / self.alpha, 9))
            raise DataError(
                f"logits: got {num_examples} examples, expected at least {fewest} for "
                f"alpha={self.alpha}. Raise alpha or use a larger calibration split."
            )
        rng = np.random.default_rng([self.seed, 0])
        scores = np.empty(num_examples)
        for rows in numerics.row_blocks(*logits.shape):
            block = self.score.scores(numerics.softmax(logits[rows]), rng)
            scores[rows] = block[np.arange(len(block)), labels[rows]]
        threshold = float(np.partition(scores, rank - 1)[rank - 1])
        return PredictionSets(score=self.score, threshold=threshold, seed=self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetMetrics:
    """What prediction sets are worth on a split.

    Attributes:
        coverage: Share of examples whose set holds the label, in [0, 1].
        mean_size: Mean number of classes in a set.
        largest: The largest size of each stratum; a stratum begins above the last one's.
        count: Examples in each stratum.
        stratum_coverage: Their coverage, NaN without examples.
    """

    coverage: float
    mean_size: float
    largest: Int[np.ndarray, " s"]
    count: Int[np.ndarray, " s"]
    stratum_coverage: Float[np.ndarray, " s"]

    def violation(self, alpha: float) -> float:
        """Size-stratified coverage violation `max_s |coverage_s - (1 - alpha)|`, in [0, 1].

        Angelopoulos et al. 2021 (arXiv 2009.14193), section 4, from memory.
        """
        return float(np.nanmax(np.abs(self.stratum_coverage - (1 - alpha))))


def set_metrics(
    sets: Bool[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    *,
    strata: tuple[int, ...] = (1, 3, 10, 100),
) -> SetMetrics:
    """Coverage, mean size and coverage by size of prediction sets.

    Args:
        sets: Whether each class is in the set.
        labels: Classes in [0, c).
        strata: The largest sizes, increasing; a last stratum goes up to c. By default sizes 0-1,
            2-3, 4-10, 11-100 and above, as Angelopoulos et al. 2021.

    Raises:
        ConfigError: Sizes that do not increase.
        DataError: No sets, labels of another length or outside [0, c).
    """
    inputs.check_matrix(sets, labels, name="logits")
    if any(low >= high for low, high in zip(strata, strata[1:], strict=False)):
        raise ConfigError(f"strata: got {strata}, expected increasing sizes. Correct it.")
    num_classes = sets.shape[1]
    edges = np.array([*(size for size in strata if size < num_classes), num_classes])
    covered = sets[np.arange(len(labels)), labels]
    sizes = sets.sum(axis=1)
    stratum = np.searchsorted(edges, sizes)
    count = np.bincount(stratum, minlength=len(edges))
    hits = np.bincount(stratum, weights=covered, minlength=len(edges))
    return SetMetrics(
        coverage=float(covered.mean()),
        mean_size=float(sizes.mean()),
        largest=edges,
        count=count,
        stratum_coverage=hits / np.where(count > 0, count, np.nan),
    )
