"""The numbers of a report: means over seeds, pooled reliability, training curves.

Reads the `results.json` dictionary (schema 1) and the `metrics.jsonl` records.
Whatever is missing, null or not finite becomes `None`; nothing is invented for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import DataError
from calib_jax.metrics.wilson import wilson_interval

SCHEMA = 1
MAX_CURVE_POINTS = 200
# The smallest shares are left out: the error rate among a handful of examples is noise.
_COVERAGE = np.linspace(0.05, 1.0, 96)


class Stat(NamedTuple):
    """A mean over seeds and the sample standard deviation (None with fewer than two seeds)."""

    mean: float | None
    std: float | None = None


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Bins of one reliability diagram; fractions in [0, 1], NaN where a bin is empty.

    `repeats` is how often each example was counted: once a seed. `level` is that of the intervals.
    """

    edges: Float[np.ndarray, " m_plus_1"]
    count: Float[np.ndarray, " m"]
    confidence: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]
    repeats: int = 1
    level: float = 0.95

    def accuracy_interval(self) -> Float[np.ndarray, "2 m"]:
        """Ends of the Wilson interval of each bin's accuracy, NaN where it is empty.

        Of the examples, not of their repeats, whose mean number is rounded up: another seed is no
        new example.
        """
        examples = np.ceil(self.count / self.repeats).astype(np.int64)
        return np.stack(wilson_interval(self.accuracy, examples, level=self.level))

    def expected_calibration_error(self) -> float:
        """ECE of these bins: sum of count * |accuracy - confidence| over all examples."""
        filled = self.count > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gaps, weights=self.count[filled]))


class Curve(NamedTuple):
    """A quantity over training: mean, lowest and highest over the seeds at each step."""

    x: Float[np.ndarray, " t"]
    mean: Float[np.ndarray, " t"]
    low: Float[np.ndarray, " t"]
    high: Float[np.ndarray, " t"]


def check(results: Mapping[str, Any]) -> None:
    """Nothing; raises DataError unless `results` has the schema and the parts a report needs."""
    if results.get("schema") != SCHEMA:
        raise DataError(
            f"results: got schema {results.get('schema')!r}, expected {SCHEMA}. "
            "Run the experiment again with this version."
        )
    missing = [key for key in ("table", "runs", "datasets") if not results.get(key)]
    if missing:
        raise DataError(
            f"results: got nothing under {missing}, expected at least one finished method. "
            "Run the experiment to its end."
        )


def number(value: object) -> float | None:
    """A finite float, or None for whatever is missing, not finite or not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if math.isfinite(value) else None


def stat(values: Iterable[object]) -> Stat:
    """Mean and sample standard deviation (n - 1) of the finite values; None where undefined."""
    finite = [x for x in map(number, values) if x is not None]
    if not finite:
        return Stat(None)
    return Stat(float(np.mean(finite)), float(np.std(finite, ddof=1)) if len(finite) > 1 else None)


def lookup(tree: object, *keys: str) -> Any:
    """The value under nested `keys`, or None as soon as one of them is missing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def methods(results: Mapping[str, Any]) -> list[str]:
    """Method names in the order of the results table."""
    return [row["method"] for row in results["table"]]


def table_stat(row: Mapping[str, Any], key: str) -> Stat:
    """The mean and spread that `results["table"]` holds under `key`."""
    return Stat(number(lookup(row, key, "mean")), number(lookup(row, key, "std")))


def over_seeds(results: Mapping[str, Any], method: str, *keys: str) -> Stat:
    """Mean and spread over a method's runs of the number under nested `keys`."""
    return stat(lookup(run, *keys) for run in results["runs"] if run["method"] == method)


def evaluated(results: Mapping[str, Any]) -> list[str]:
    """Labelled data sets: the in-distribution one, then the shifts in their order."""
    return [results["datasets"]["id"], *results["datasets"].get("shifts", [])]


def out_of_distribution(results: Mapping[str, Any]) -> list[str]:
    """Data sets of unknown classes: near ones first, then far ones."""
    return [*results["datasets"].get("near", []), *results["datasets"].get("far", [])]


def of_files(results: Mapping[str, Any]) -> bool:
    """Whether the predictions were read from files: no run says how long it was trained."""
    return not any("num_steps" in run for run in results.get("runs") or ())


def has_seeds(results: Mapping[str, Any]) -> bool:
    """Whether there are several seeds."""
    return len(results.get("seeds") or ()) > 1


def level(results: Mapping[str, Any]) -> float:
    """The share that the intervals of the results hold."""
    return next((run["level"] for run in results["runs"] if "level" in run), 0.95)


def names(results: Mapping[str, Any], *keys: str) -> list[str]:
    """Every key that any run has under nested `keys`, in order of appearance."""
    found = [key for run in results["runs"] for key in lookup(run, *keys) or ()]
    return list(dict.fromkeys(found))


def pooled_reliability(
    results: Mapping[str, Any], method: str, datasets: Sequence[str]
) -> Reliability | None:
    """Bins over all examples of `datasets` and all seeds of a method, None where there are none.

    Raises:
      DataError: the bins have different edges, so their counts cannot be added.
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
    count, confidence, accuracy = np.sum(sums, axis=0)
    filled = np.where(count > 0, count, np.nan)
    means = (confidence / filled, accuracy / filled)
    return Reliability(edges, count, *means, repeats=len(seeds), level=level(results))


def risk_coverage(results: Mapping[str, Any], method: str, datasets: Sequence[str]) -> Curve | None:
    """Error rate in % among the most confident x % of examples, None where there are none.

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
            rows.append(100 * np.mean(found, axis=0))
    if not rows:
        return None
    return Curve(100 * _COVERAGE, np.mean(rows, 0), np.min(rows, 0), np.max(rows, 0))


def _bin_sums(bins: Mapping[str, Any]) -> Float[np.ndarray, "3 m"]:
    """Rows: examples, summed confidence, correct examples of each bin (0 where empty)."""
    count = np.asarray([number(x) or 0.0 for x in bins["count"]])
    rows = [[number(x) or 0.0 for x in bins[key]] for key in ("confidence", "accuracy")]
    return np.stack([count, *(count * np.asarray(row) for row in rows)])


def phases(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Training phases (methods and pre-training) in order of appearance."""
    return list(dict.fromkeys(record["phase"] for record in history if "phase" in record))


def terms(history: Sequence[Mapping[str, Any]], phase: str | None = None) -> list[str]:
    """Names of the loss terms logged in a phase (None: in any), in order of appearance."""
    records = (r for r in history if phase is None or r.get("phase") == phase)
    return list(dict.fromkeys(name for r in records for name in r.get("terms") or ()))


def curve(history: Sequence[Mapping[str, Any]], phase: str, *keys: str) -> Curve | None:
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


def spectrum(results: Mapping[str, Any], method: str, *, last: int | None = None) -> Curve | None:
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


def _shorten(points: Float[np.ndarray, "t 4"]) -> Curve:
    """The curve with at most `MAX_CURVE_POINTS` points: means, and the envelope of the band."""
    chunks = np.array_split(points, min(len(points), MAX_CURVE_POINTS))
    x, mean = (np.asarray([chunk[:, i].mean() for chunk in chunks]) for i in (0, 1))
    low = np.asarray([chunk[:, 2].min() for chunk in chunks])
    return Curve(x, mean, low, np.asarray([chunk[:, 3].max() for chunk in chunks]))
