"""All numbers of OOD detection in resamples of both sets, each of which is sorted once.

An area under a curve of precision is a sum over the positives. It is taken over their distinct
scores alone, beside the number of negatives up to each of them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from calib_jax.core import errors, inputs
from calib_jax.metrics import bootstrap
from calib_jax.metrics.bootstrap import Values

TPR = 0.95
NUMBERS = ("auroc", "aupr_id", "aupr_ood", "fpr95_id_positive", "fpr95_ood_positive")
"""Those of `metrics.detection.detection`."""


def detection(
    id_scores: Float[np.ndarray, " i"],
    ood_scores: Float[np.ndarray, " o"],
    *,
    num_resamples: int = 1000,
    seed: int | tuple[int, int] = 0,
) -> dict[str, Values]:
    """The numbers of `detection.detection` in the same resamples, from one sort of the scores.

    What is drawn of the ID examples depends on the (first) seed and their number only: row by row,
    the values of several OOD sets and scores are paired.

    Raises:
      ConfigError: if `num_resamples` is below 2.
      DataError: as `auroc`.
    """
    pairs = {"": (id_scores, ood_scores)}
    return detections(pairs, num_resamples=num_resamples, seed=seed)[""]


def detections(
    pairs: Mapping[str, tuple[Float[np.ndarray, " i"], Float[np.ndarray, " o"]]],
    *,
    num_resamples: int = 1000,
    seed: int | tuple[int, int] = 0,
) -> dict[str, dict[str, Values]]:
    """`detection` of several scores of the same examples, which are drawn once for all of them.

    Raises:
      ConfigError: as `detection`.
      DataError: as `auroc`, or if the pairs are not of the same examples.
    """
    sizes = {(len(of_id), len(of_ood)) for of_id, of_ood in pairs.values()}
    if len(sizes) > 1:
        raise errors.DataError(
            f"pairs: got ID and OOD examples {' and '.join(map(str, sorted(sizes)))}, expected "
            "those of one ID split and one OOD set. Call it once for each set."
        )
    ranked = {name: Ranked(*pair) for name, pair in pairs.items()}
    found = {name: np.empty((len(NUMBERS), num_resamples)) for name in pairs}
    for strata in sizes:
        position = 0
        for block in bootstrap.draws(strata, num_resamples=num_resamples, seed=seed):
            for counts in block:
                of_id, of_ood = counts[: strata[0]], counts[strata[0] :]
                for name, one in ranked.items():
                    found[name][:, position] = one.numbers(of_id, of_ood)
                position += 1
    return {name: dict(zip(NUMBERS, values, strict=True)) for name, values in found.items()}


class Ranked:
    """An ID split and an OOD set in the order of their scores, to be counted again and again.

    What is as long as a set is written to memory that is kept: fresh memory for every resample
    takes longer than the arithmetic.
    """

    def __init__(self, id_scores: Float[np.ndarray, " i"], ood_scores: Float[np.ndarray, " o"]):
        """Sorts both.

        Raises:
          DataError: as `bootstrap_curves.auroc`.
        """
        for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores)):
            inputs.check_not_empty(scores, name=name)
            inputs.check_finite(scores, name=name)
        self._id, self._ood = _Sorted(id_scores), _Sorted(ood_scores)
        # How many distinct scores of the other set are below, and up to, each of one's own.
        self._below = np.searchsorted(self._ood.values, self._id.values, side="left")
        up_to = np.searchsorted(self._ood.values, self._id.values, side="right")
        self._up_to = None if np.array_equal(up_to, self._below) else up_to
        self._id_up_to = np.searchsorted(self._id.values, self._ood.values, side="right")
        self._at_id = tuple(np.empty(len(self._below)) for _ in range(3))
        self._at_ood = tuple(np.empty(len(self._id_up_to)) for _ in range(2))

    def numbers(
        self, of_id: Float[np.ndarray, " i"], of_ood: Float[np.ndarray, " o"]
    ) -> tuple[float, ...]:
        """`NUMBERS` of the examples, each as often as it was drawn.

        Args:
          of_id: how often each ID example was; in all as many as there are.
          of_ood: the same of the OOD examples.
        """
        num_id, num_ood = len(of_id), len(of_ood)
        drawn_id, id_up = self._id.counted(of_id)
        drawn_ood, ood_up = self._ood.counted(of_ood)
        below, hits, total = self._at_id
        np.take(ood_up, self._below, out=below, mode="clip")
        if self._up_to is None:
            num_pairs = 2 * _dot(drawn_id, below)
        else:
            num_pairs = _dot(drawn_id, below + np.take(ood_up, self._up_to))
        np.subtract(num_id, id_up[:-1], out=hits)
        np.subtract(num_id + num_ood - below, id_up[:-1], out=total)  # hits and false alarms
        aupr_id = _mean_precision(drawn_id, hits, total) / num_id
        num_id_below, total_ood = self._at_ood
        np.take(id_up, self._id_up_to, out=num_id_below, mode="clip")
        np.add(ood_up[1:], num_id_below, out=total_ood)
        aupr_ood = _mean_precision(drawn_ood, ood_up[1:], total_ood) / num_ood
        # The highest score that enough ID examples reach, and the lowest that enough OOD do.
        last = np.searchsorted(id_up[:-1], num_id - _fewest(num_id), side="right") - 1
        first = np.searchsorted(ood_up[1:], _fewest(num_ood), side="left")
        return (
            num_pairs / (2 * num_id * num_ood),
            aupr_id,
            aupr_ood,
            float(num_ood - below[last]) / num_ood,
            float(num_id_below[first]) / num_id,
        )


class _Sorted:
    """Scores in ascending order.

    Attributes:
      values: the distinct ones.
    """

    def __init__(self, scores: np.ndarray):
        self._order = np.argsort(scores)
        ordered = scores[self._order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(scores))
        self.values = ordered[ends - 1]
        self._ends = None if len(ends) == len(scores) else np.append(0, ends)
        self._counts, self._up_to = np.empty(len(scores)), np.zeros(len(scores) + 1)

    def counted(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many are drawn at each distinct score, and at or below it; the latter after a 0."""
        np.take(counts, self._order, out=self._counts, mode="clip")
        np.cumsum(self._counts, out=self._up_to[1:])
        if self._ends is None:
            return self._counts, self._up_to
        up_to = self._up_to[self._ends]
        return np.diff(up_to), up_to


def _mean_precision(drawn: np.ndarray, hits: np.ndarray, total: np.ndarray) -> float:
    """The precision at every positive that is drawn, summed; overwrites `total`."""
    np.maximum(total, 1, out=total)  # where there is nothing, nothing is drawn
    np.divide(hits, total, out=total)
    return _dot(drawn, total)


def _dot(first: np.ndarray, second: np.ndarray) -> float:
    """Their inner product in one thread: those that BLAS starts for each cost more than it."""
    return float(np.einsum("n,n->", first, second))


@functools.cache
def _fewest(num_examples: int) -> int:
    """The fewest of so many that are at least the share `TPR`."""
    found = int(TPR * num_examples)
    while found / num_examples < TPR:
        found += 1
    while (found - 1) / num_examples >= TPR:
        found -= 1
    return found
