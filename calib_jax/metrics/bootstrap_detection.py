"""All numbers of OOD detection in resamples of both sets, each of which is sorted once.

An area under a curve of precision is a sum over the positives: it is taken over their distinct
scores alone, beside the number of negatives up to each of them.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from calib_jax.core import errors, inputs
from calib_jax.metrics import bootstrap
from calib_jax.metrics.bootstrap import Values, ratio

TPR = 0.95


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
    ranked = {name: Ranked.of(*pair) for name, pair in pairs.items()}
    found: dict[str, list[dict[str, Values]]] = {name: [] for name in pairs}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for strata in sizes:
            for counts in bootstrap.draws(strata, num_resamples=num_resamples, seed=seed):
                parts = (counts[:, : strata[0]], counts[:, strata[0] :])
                blocks = pool.map(lambda one, parts=parts: one.numbers(*parts), ranked.values())
                for name, block in zip(found, blocks, strict=True):
                    found[name].append(block)
    return {
        name: {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
        for name, blocks in found.items()
    }


@dataclasses.dataclass(frozen=True)
class Ranked:
    """An ID split and an OOD set in the order of their scores, to be counted again and again.

    Attributes:
      id_order: of the ID examples, the lowest score first.
      ood_order: of the OOD examples.
      id_ends: how many ID examples are at or below each of their distinct scores.
      ood_ends: how many OOD examples are at or below each of theirs.
      below: how many distinct OOD scores are below each distinct ID score.
      up_to: how many distinct OOD scores are at or below each distinct ID score.
      id_up_to: how many distinct ID scores are at or below each distinct OOD score.
    """

    id_order: Int[np.ndarray, " i"]
    ood_order: Int[np.ndarray, " o"]
    id_ends: Int[np.ndarray, " u"]
    ood_ends: Int[np.ndarray, " v"]
    below: Int[np.ndarray, " u"]
    up_to: Int[np.ndarray, " u"]
    id_up_to: Int[np.ndarray, " v"]

    @classmethod
    def of(cls, id_scores: Float[np.ndarray, " i"], ood_scores: Float[np.ndarray, " o"]) -> Ranked:
        """The two sets, sorted.

        Raises:
          DataError: as `auroc`.
        """
        for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores)):
            inputs.check_not_empty(scores, name=name)
            inputs.check_finite(scores, name=name)
        (id_order, id_values, id_ends), (ood_order, ood_values, ood_ends) = (
            _distinct(scores) for scores in (id_scores, ood_scores)
        )
        return cls(
            id_order=id_order,
            ood_order=ood_order,
            id_ends=id_ends,
            ood_ends=ood_ends,
            below=np.searchsorted(ood_values, id_values, side="left"),
            up_to=np.searchsorted(ood_values, id_values, side="right"),
            id_up_to=np.searchsorted(id_values, ood_values, side="right"),
        )

    def numbers(
        self, of_id: Float[np.ndarray, "r i"], of_ood: Float[np.ndarray, "r o"]
    ) -> dict[str, Values]:
        """The numbers of `detection.detection` for each row of counts.

        An AUPR is a sum over the positives, so that it is taken over their distinct scores alone.
        """
        num_id, num_ood = of_id.shape[1], of_ood.shape[1]  # in every resample too
        id_up = _up_to(of_id, self.id_order, self.id_ends)  # [r, u + 1], from 0
        ood_up = _up_to(of_ood, self.ood_order, self.ood_ends)
        at_id, at_ood = np.diff(id_up, axis=1), np.diff(ood_up, axis=1)
        below = np.take(ood_up, self.below, axis=1)
        pairs = below + np.take(ood_up, self.up_to, axis=1)
        auroc = np.einsum("ru,ru->r", at_id, pairs) / (2 * num_id * num_ood)
        hits, alarms = num_id - id_up[:, :-1], num_ood - below
        aupr_id = np.einsum("ru,ru->r", at_id, ratio(hits, hits + alarms)) / num_id
        id_below = np.take(id_up, self.id_up_to, axis=1)
        precision = ratio(ood_up[:, 1:], ood_up[:, 1:] + id_below)
        # The highest distinct score that enough ID examples reach, the lowest that enough OOD do.
        is_kept = hits / num_id >= TPR
        last = is_kept.shape[1] - 1 - is_kept[:, ::-1].argmax(axis=1, keepdims=True)
        first = (ood_up[:, 1:] / num_ood >= TPR).argmax(axis=1, keepdims=True)
        return {
            "auroc": auroc,
            "aupr_id": aupr_id,
            "aupr_ood": np.einsum("rv,rv->r", at_ood, precision) / num_ood,
            "fpr95_id_positive": np.take_along_axis(alarms, last, axis=1)[:, 0] / num_ood,
            "fpr95_ood_positive": np.take_along_axis(id_below, first, axis=1)[:, 0] / num_id,
        }


def _distinct(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ascending order, the distinct scores, and how many are at or below each of them."""
    order = np.argsort(scores)
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(scores))
    return order, ordered[ends - 1], ends


def _up_to(counts: np.ndarray, order: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many are drawn at or below each distinct score, [r, u + 1]; first 0, below them all."""
    found = np.zeros((len(counts), len(order) + 1))
    np.cumsum(np.take(counts, order, axis=1), axis=1, out=found[:, 1:])
    return found if len(ends) == len(order) else np.take(found, np.append(0, ends), axis=1)
