"""The diagrams and curves of a run's page: pooled bins, abstention, spectra, training.

Functions of the records of `results.json` and of `metrics.jsonl`; JSON values. Whatever is missing,
null or not finite is left out; nothing is invented for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import DataError
from calib_jax.evaluation.split_metrics import finite
from calib_jax.metrics.wilson import wilson_interval
from calib_jax.report import data
from calib_jax.report.data import lookup, number

MAX_CURVE_POINTS = 200
# The smallest shares are left out: the error rate among a handful of examples is noise.
_COVERAGE = np.linspace(0.05, 1.0, 96)

Results = Mapping[str, Any]
History = Sequence[Mapping[str, Any]]
Points = dict[str, list[float]]


def pooled_reliability(
    results: Results, method: str, datasets: Sequence[str]
) -> dict[str, Any] | None:
    """Bins over all examples of `datasets` and all seeds of a method, None where there are none.

    `edges`, and of each bin `count`, its `share` of the examples, `confidence`, `accuracy` and
    the ends of its Wilson interval; `ece` of these bins. None in an empty bin. The interval is that
    of the examples, not of their repeats, whose mean number is rounded up: another seed is no new
    example.

    Raises:
        DataError: The bins have different edges, so their counts cannot be added.
    """
    edges: np.ndarray | None = None
    sums: list[np.ndarray] = []
    seeds: set[object] = set()
    for run in results["runs"]:
        for dataset in datasets if run["method"] == method else ():
            bins = lookup(run, "reliability", dataset)
            if not bins:
                continue
            these = np.asarray(bins["edges"], np.float64)
            edges = these if edges is None else edges
            if not np.array_equal(edges, these):
                raise DataError(
                    f"reliability of {method} on {dataset}: got other bin edges than before, "
                    "expected one binning in a run. Use one num_bins for every split."
                )
            sums.append(_bin_sums(bins))
            seeds.add(run.get("seed"))
    if edges is None or not np.sum(sums):
        return None
    count, confidence_sum, accuracy_sum = np.sum(sums, axis=0)
    filled = np.where(count > 0, count, np.nan)
    confidence, accuracy = confidence_sum / filled, accuracy_sum / filled
    examples = np.ceil(count / len(seeds)).astype(np.int64)
    low, high = wilson_interval(accuracy, examples, level=data.level(results))
    gaps = np.abs(accuracy - confidence)[count > 0]
    columns = {
        "edges": edges,
        "count": count,
        "share": count / count.sum(),
        "confidence": confidence,
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
    }
    found: dict[str, Any] = {k: [finite(x) for x in v.tolist()] for k, v in columns.items()}
    return found | {"ece": float(np.average(gaps, weights=count[count > 0]))}


def _bin_sums(bins: Mapping[str, Any]) -> Float[np.ndarray, "3 m"]:
    """Rows: examples, summed confidence, correct examples of each bin (0 where empty)."""
    count = np.asarray([number(x) or 0.0 for x in bins["count"]])
    rows = [[number(x) or 0.0 for x in bins[key]] for key in ("confidence", "accuracy")]
    return np.stack([count, *(count * np.asarray(row) for row in rows)])


def risk_coverage(results: Results, method: str, datasets: Sequence[str]) -> Points | None:
    """Error rate among the most confident share of the examples, None where there are none.

    The mean over `datasets`, each counting the same, then over the seeds, whose lowest and highest
    are the band.
    """
    rows = []
    for run in results["runs"]:
        found = [
            np.interp(_COVERAGE, points["coverage"], points["risk"])
            for dataset in (datasets if run["method"] == method else ())
            if (points := lookup(run, "selective", dataset)) and points["coverage"]
        ]
        if found:
            rows.append(np.mean(found, axis=0))
    if not rows:
        return None
    return _curve(np.stack([_COVERAGE, np.mean(rows, 0), np.min(rows, 0), np.max(rows, 0)], axis=1))


def spectrum(results: Results, method: str, *, last: int | None = None) -> Points | None:
    """Singular values of the image features by rank (from 1, largest first) over the seeds.

    `last` keeps the smallest ones only.
    """
    found = [
        sorted((x for x in map(number, values) if x is not None), reverse=True)
        for run in results["runs"]
        if run["method"] == method and (values := lookup(run, "spectrum", "singular_values"))
    ]
    length = min(map(len, found), default=0)
    if not length:
        return None
    values = np.asarray([row[:length] for row in found])
    rank = np.arange(1, length + 1, dtype=np.float64)
    points = np.stack([rank, values.mean(0), values.min(0), values.max(0)], axis=1)
    return _shorten(points if last is None else points[-last:])


def training(history: History) -> dict[str, Any]:
    """`terms`, the names of the loss terms, and `phases`: the curves of each over its steps.

    A phase has `loss`, `terms` by name, and the two smallest singular values that were logged.
    """
    phases = dict.fromkeys(record["phase"] for record in history if "phase" in record)
    return {
        "terms": term_names(history),
        "phases": {phase: _phase(history, phase) for phase in phases},
    }


def _phase(history: History, phase: str) -> dict[str, Any]:
    keys = ("loss", "smallest_singular_value", "projection_smallest_singular_value")
    curves = {key: curve(history, phase, key) for key in keys}
    terms = {name: curve(history, phase, "terms", name) for name in term_names(history, phase)}
    found: dict[str, Any] = {key: value for key, value in curves.items() if value}
    return found | {"terms": {name: value for name, value in terms.items() if value}}


def term_names(history: History, phase: str | None = None) -> list[str]:
    """Names of the loss terms logged in a phase (None: in any), in order of appearance."""
    records = (r for r in history if phase is None or r.get("phase") == phase)
    return list(dict.fromkeys(name for r in records for name in r.get("terms") or ()))


def curve(history: History, phase: str, *keys: str) -> Points | None:
    """The curve of the number under `keys` in a phase, None where nothing was logged.

    A step that was logged twice (a resumed run) counts once, with its last value. Long
    curves are averaged over neighbouring steps down to `MAX_CURVE_POINTS`.
    """
    last: dict[tuple[int, Any], float] = {}
    for record in history:
        value = number(lookup(record, *keys))
        if record.get("phase") == phase and value is not None and "step" in record:
            last[record["step"], record.get("seed")] = value
    steps: dict[int, list[float]] = {}
    for (step, _), value in sorted(last.items(), key=lambda item: item[0][0]):
        steps.setdefault(step, []).append(value)
    if not steps:
        return None
    return _shorten(
        np.asarray([[s, np.mean(v), min(v), max(v)] for s, v in steps.items()], np.float64)
    )


def _shorten(points: Float[np.ndarray, "t 4"]) -> Points:
    """The curve with at most `MAX_CURVE_POINTS` points: means, and the envelope of the band."""
    chunks = np.array_split(points, min(len(points), MAX_CURVE_POINTS))
    x, mean = (np.asarray([chunk[:, i].mean() for chunk in chunks]) for i in (0, 1))
    low = np.asarray([chunk[:, 2].min() for chunk in chunks])
    high = np.asarray([chunk[:, 3].max() for chunk in chunks])
    return _curve(np.stack([x, mean, low, high], axis=1))


def _curve(points: Float[np.ndarray, "t 4"]) -> Points:
    """`x`, `mean`, `low` and `high` as lists."""
    names = ("x", "mean", "low", "high")
    return {name: column.tolist() for name, column in zip(names, points.T, strict=True)}
