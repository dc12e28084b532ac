"""How well scores tell in-distribution images from those of no class.

Each split is scored once. What comes of an OOD set under a score depends on no other set or score:
computed later, it is bit-equal to what would have been computed at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import DataError
from calib_jax.core.types import Predictions
from calib_jax.evaluation import intervals
from calib_jax.metrics import bootstrap_detection
from calib_jax.metrics.bootstrap import Values
from calib_jax.metrics.detection import detection
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score, check_quantities

Scored = Mapping[str, Mapping[str, Float[np.ndarray, " n"]]]
"""Of each split, by name, the values of each score, by name: one an example."""


def quantities_of(predictions: Predictions, *, labelled: bool = False) -> Quantities:
    """What scores may ask for of a predicted split.

    Args:
        predictions: Of the split.
        labelled: Whether its labels are among the known classes, as those of a reference are.
    """
    return Quantities(
        logits=predictions.logits,
        similarities=predictions.similarities,
        features=predictions.features,
        class_bank=predictions.class_embeddings,
        labels=predictions.labels if labelled else None,
    )


def score_split(
    scores: Mapping[str, Score], quantities: Quantities
) -> dict[str, Float[np.ndarray, " n"]]:
    """Every score of the split's examples; higher = more in-distribution.

    Args:
        scores: By name, fitted where they have statistics.
        quantities: Of the split.

    Raises:
        ConfigError: A score needs a quantity that there is not.
        DataError: A score is not finite.
    """
    check_quantities(scores, quantities)
    found = {}
    for name, score in scores.items():
        values = score(quantities.only(score.needs))
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite))
            raise DataError(
                f"score {name}: got {values[row]} at [{row}], expected finite numbers. Look at the "
                "predictions of that example."
            )
        found[name] = values
    return found


def detection_record(
    scored: Scored,
    *,
    id_name: str,
    table_score: str = "",
    means: Mapping[str, Sequence[str]] | None = None,
    num_resamples: int = 0,
    id_seed: int = 0,
    level: float = 0.95,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`detection` of every OOD set and score; with resamples `detection_intervals`.

    And `summary_intervals` of the mean AUROC over groups of sets, under the score of the table.

    Args:
        scored: The ID split, and the OOD sets.
        id_name: Which of them is the ID split.
        table_score: That of the table.
        means: The OOD sets of each mean, under what the mean is called.
        num_resamples: Of the bootstrap; 0: no intervals.
        id_seed: Of the ID split's resamples; an OOD set has one of its name.
        level: Of the intervals.
        known: An earlier record of the same predictions, scores, resamples and level: what it has
            of a set and a score is kept. Scores that it has and that are not asked for are not.

    Raises:
        DataError: As `metrics.detection.detection`.
    """
    of_id, means = scored[id_name], means or {}
    kept = _kept(known or {}, has_intervals=num_resamples > 0)
    resamples = {"num_resamples": num_resamples, "id_seed": id_seed}
    numbers: dict[str, dict[str, Any]] = {}
    ends: dict[str, dict[str, Any]] = {}
    aurocs: dict[str, Values] = {}
    for name, of_set in scored.items():
        if name == id_name:
            continue
        new = {k: v for k, v in of_set.items() if (name, k) not in kept}
        fresh = {k: detection(of_id[k], values) for k, values in new.items()}
        numbers[name] = {k: fresh.get(k) or kept[name, k][0] for k in of_set}
        if num_resamples:
            drawn = resampled(of_id, new, name=name, **resamples)
            ends[name] = {
                k: intervals.ends(drawn[k], level) if k in drawn else kept[name, k][1]
                for k in of_set
            }
            if table_score in drawn:
                aurocs[name] = drawn[table_score]["auroc"]
    found: dict[str, Any] = {"detection": numbers}
    if not ends:
        return found
    for name in {name for names in means.values() for name in names} - aurocs.keys():
        one = {table_score: scored[name][table_score]}
        aurocs[name] = resampled(of_id, one, name=name, **resamples)[table_score]["auroc"]
    over = {
        mean: np.mean([aurocs[name] for name in names], axis=0)
        for mean, names in means.items()
        if names
    }
    found["detection_intervals"] = ends
    return found | ({"summary_intervals": intervals.ends(over, level)} if over else {})


def known_of(record: Mapping[str, Any], scores: Collection[str]) -> dict[str, Any]:
    """What `detection_record` may keep of a record: the numbers of these scores.

    Args:
        record: Of the same predictions, resamples and level.
        scores: The names of those that have the settings which they had then.
    """
    return {
        part: {
            name: {score: of_set[score] for score in of_set if score in scores}
            for name, of_set in record[part].items()
        }
        for part in ("detection", "detection_intervals")
        if part in record
    }


def resampled(
    of_id: Mapping[str, Float[np.ndarray, " i"]],
    of_set: Mapping[str, Float[np.ndarray, " o"]],
    *,
    name: str,
    num_resamples: int,
    id_seed: int,
) -> dict[str, dict[str, Values]]:
    """The detection numbers of each score of an OOD set, in resamples of it and of the ID split.

    The same ID examples are drawn beside every set, and the same of both under every score.

    Args:
        of_id: The scores of the ID split, those of the set among them.
        of_set: The scores of the set.
        name: Of the set: what is drawn of it goes by the name.
        num_resamples: That are drawn.
        id_seed: Of the ID split's resamples.
    """
    return bootstrap_detection.detections(
        {score: (of_id[score], values) for score, values in of_set.items()},
        num_resamples=num_resamples,
        seed=(id_seed, zlib.crc32(name.encode())),
    )


def _kept(
    known: Mapping[str, Any], *, has_intervals: bool
) -> dict[tuple[str, str], tuple[dict[str, float], Any]]:
    """The numbers, and the intervals if there are to be any, of each set and score of a record."""
    ends = known.get("detection_intervals", {})
    return {
        (name, score): (numbers, ends.get(name, {}).get(score))
        for name, of_set in known.get("detection", {}).items()
        for score, numbers in of_set.items()
        if not has_intervals or score in ends.get(name, {})
    }
