"""The numbers of a report, read from the `results.json` dictionary (schema 1).

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
from calib_jax.core.printing import escaped
from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import Quantity

SCHEMA = 1


class Stat(NamedTuple):
    """A mean over seeds and the sample standard deviation (None with fewer than two seeds)."""

    mean: float | None
    std: float | None = None


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Bins of one reliability diagram; fractions in [0, 1], NaN where a bin is empty.

    `low` and `high` are the ends of the interval of each accuracy, `ece` the error of these bins.
    """

    edges: Float[np.ndarray, " m_plus_1"]
    count: Float[np.ndarray, " m"]
    share: Float[np.ndarray, " m"]
    confidence: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]
    ece: float


class Curve(NamedTuple):
    """A quantity over another: mean, lowest and highest over the seeds at each place."""

    x: Float[np.ndarray, " t"]
    mean: Float[np.ndarray, " t"]
    low: Float[np.ndarray, " t"]
    high: Float[np.ndarray, " t"]


def check(results: Mapping[str, Any]) -> None:
    """Raises a DataError unless `results` has the schema and the parts a table needs."""
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


def check_page(results: Mapping[str, Any]) -> None:
    """Raises a DataError unless `results` has what `check` asks for and the numbers of a page."""
    check(results)
    if "page" not in results:
        raise DataError(
            "results: got nothing under 'page', expected the numbers of the page. Run the command "
            "again on its folder, or add them with calib_jax.runs.page_record.with_page."
        )


def printable(value: Any) -> Any:
    """The same dicts and lists with every text, keys included, `core.printing.escaped`.

    No font has a half of a surrogate pair, which file names and arguments may hold.
    """
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {printable(key): printable(inner) for key, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, list) else value


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
    """Mean and spread over a method's runs of the number under nested `keys`, from the record."""
    return table_stat(lookup(results["page"]["means"], method, *keys[:-1]) or {}, keys[-1])


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


def ece(results: Mapping[str, Any]) -> str:
    """The key of the ECE of the table."""
    return f"ece_{results.get('num_bins')}"


def quantity(results: Mapping[str, Any], key: str) -> Quantity:
    """What a number of the results is called, its unit and its better side.

    Raises:
      ConfigError: neither the catalogue nor the results (`quantities`) know it.
    """
    own = lookup(results, "quantities", key)
    return catalogue.of(key) if own is None else Quantity(**own)


def reliability(bins: Mapping[str, Any] | None) -> Reliability | None:
    """A recorded diagram; None where there is none."""
    if bins is None:
        return None

    def column(key: str) -> Float[np.ndarray, " _"]:
        return np.asarray(bins[key], np.float64)

    return Reliability(
        edges=column("edges"),
        count=column("count"),
        share=column("share"),
        confidence=column("confidence"),
        accuracy=column("accuracy"),
        low=column("accuracy_low"),
        high=column("accuracy_high"),
        ece=bins["ece"],
    )


def curve(points: Mapping[str, Sequence[float]] | None, *, scale: float = 1.0) -> Curve | None:
    """A recorded curve, its heights times `scale`; None where there is none."""
    if not points:
        return None
    x, *heights = (np.asarray(points[key], np.float64) for key in Curve._fields)
    return Curve(x, *(scale * height for height in heights))
