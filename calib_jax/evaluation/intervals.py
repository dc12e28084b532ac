"""Bootstrap intervals: how far the numbers of a record could move with other test examples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from calib_jax.core.numerics import softmax
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.split_metrics import NUM_BINS
from calib_jax.metrics import bootstrap
from calib_jax.metrics.bootstrap import Statistic, Values
from calib_jax.metrics.builtin import in_bins
from calib_jax.metrics.metric import SplitView
from calib_jax.metrics.outcomes import Outcomes

MAX_BY_CLASS = 1_000_000_000
"""Examples times classes times resamples of an interval of the class-wise ECE: some seconds."""

MIN_CORRELATION = 4.0
"""In standard deviations of the correlation of what is unrelated, 1 / sqrt(n)."""


def ends(values: Mapping[str, Values], level: float = 0.95) -> dict[str, list[float]]:
    """The interval of each number of resamples, `[low, high]`."""
    return {key: list(bootstrap.percentiles(v, level=level)) for key, v in values.items()}


def parts(
    values: Mapping[str, Mapping[str, Values]], over: Mapping[str, Values], level: float
) -> dict[str, Any]:
    """`intervals` of the metrics of each split; of what is over the shifts `summary_intervals`."""
    found = {"intervals": {name: ends(of_split, level) for name, of_split in values.items()}}
    return found | ({"summary_intervals": ends(over, level)} if over else {})


def seeded(splits: Mapping[str, Labelled], outcomes: Mapping[str, Outcomes]) -> dict[str, Labelled]:
    """The splits, each with a seed of its own, or with that of an earlier one of the same images.

    One set of images under two shifts has the same labels in the same order, and is resampled
    alike. In the order of the classes unrelated sets may have the same labels too. There the model
    must also be right, and sure, of the same images within a label (`MIN_CORRELATION`).

    Args:
        splits: By name.
        outcomes: Theirs.
    """
    found: dict[str, Labelled] = {}
    kept: dict[str, np.ndarray] = {}
    for position, (name, split) in enumerate(splits.items()):
        needed, in_order = MIN_CORRELATION / np.sqrt(len(split.labels)), _in_order(split.labels)
        own = _within_labels(outcomes[name], split.labels)
        same = (
            other
            for other, before in found.items()
            if np.array_equal(before.labels, split.labels)
            and (not in_order or own @ kept[other] > needed)
        )
        twin = next(same, None)
        seed = position if twin is None else found[twin].seed
        found[name], kept[name] = dataclasses.replace(split, seed=seed), own
    return found


def _in_order(labels: np.ndarray) -> bool:
    """Whether the classes come one after the other, or in turns."""
    num_classes = len(np.unique(labels))
    num_runs = 1 + int(np.count_nonzero(np.diff(labels)))
    return num_runs == num_classes or np.array_equal(labels[num_classes:], labels[:-num_classes])


def _within_labels(outcomes: Outcomes, labels: np.ndarray) -> np.ndarray:
    """The confidence, negative where wrong, less its mean over the label; of length 1, or 0."""
    signed = np.where(outcomes.correct, 1.0, -1.0) * outcomes.confidence
    group = np.unique(labels, return_inverse=True)[1]
    signed -= (np.bincount(group, weights=signed) / np.bincount(group))[group]
    length = np.linalg.norm(signed)
    return signed / length if length > 1e-9 else np.zeros_like(signed)


def resampled(
    split: Labelled,
    outcomes: Outcomes,
    *,
    keys: Collection[str] | None = None,
    num_bins: int = NUM_BINS,
    num_resamples: int,
) -> dict[str, Values]:
    """The metrics of a split, those of `statistics`, in resamples of its examples.

    Args:
        split: With the scores.
        outcomes: Of the split.
        keys: The metrics that are wanted; None: all.
        num_bins: Of the calibration errors.
        num_resamples: That are drawn.
    """
    wanted = statistics(split, outcomes, keys=keys, num_bins=num_bins, num_resamples=num_resamples)
    return bootstrap.resampled(wanted, num_resamples=num_resamples, seed=split.seed)


def over_shifts(
    values: Mapping[str, Mapping[str, Values]], shifts: Sequence[str], *, num_bins: int = NUM_BINS
) -> dict[str, Values]:
    """The summary's mean and worst over shifts in every resample; nothing without shifts."""
    if not shifts:
        return {}
    accuracy, ece = (
        np.stack([values[name][key] for name in shifts]) for key in ("accuracy", f"ece_{num_bins}")
    )
    return {
        "ood_accuracy": accuracy.mean(axis=0),
        "ood_ece": ece.mean(axis=0),
        "worst_shift_accuracy": accuracy.min(axis=0),
        "worst_shift_ece": ece.max(axis=0),
    }


def statistics(
    split: Labelled,
    outcomes: Outcomes,
    *,
    keys: Collection[str] | None = None,
    num_bins: int = NUM_BINS,
    num_resamples: int = 1000,
) -> dict[str, Statistic]:
    """The metrics of a split as functions of how often each example is drawn.

    All that are defined and finite, but for the ECE of batches, which depends on the order of the
    examples, and the class-wise ECE where it would take long (`MAX_BY_CLASS`).

    Args:
        split: With the scores.
        outcomes: Of the split.
        keys: The metrics that are wanted; None: all.
        num_bins: Of the calibration errors.
        num_resamples: That are to be drawn.
    """
    probs = functools.partial(_probs, split)
    found = in_bins(num_bins, split.further)
    absent = set(split.undefined)
    if not np.isfinite(outcomes.nll).all():
        absent.add("nll")
    if len(outcomes.labels) * outcomes.num_classes * num_resamples > MAX_BY_CLASS:
        absent |= {key for key, (metric, _) in found.items() if metric.by_class}
    wanted = found.keys() if keys is None else [key for key in keys if key in found]
    return {
        key: metric.statistic(SplitView(outcomes=outcomes, num_bins=bins, probs=probs))
        for key, (metric, bins) in ((key, found[key]) for key in wanted)
        if key not in absent and metric.statistic is not None
    }


def _probs(split: Labelled) -> Float[np.ndarray, "n k"]:
    """Of the data set's classes, in float64."""
    scores = split.restricted().astype(np.float64)
    return scores if split.kind == "probs" else softmax(scores)
