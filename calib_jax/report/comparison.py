"""Methods against each other over seeds: paired differences, orders, rankings.

Functions of the records of `results.json`. With one seed all methods start from the same model and
are tested on the same images. So two methods are compared seed by seed: what a seed does to both
cancels. The intervals speak of other seeds, not of other test images, and are not corrected for the
number of comparisons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from scipy import stats

from calib_jax.core.errors import ConfigError, DataError, nearest
from calib_jax.metrics import catalogue
from calib_jax.report.data import Stat, lookup, number, stat, table_stat
from calib_jax.report.tables import COLUMNS

CONFIDENCE = 0.95

ACCURACY, CALIBRATION = "ood_accuracy", "ood_ece"
"""What a method must win at once to be better: accurate, and calibrated, under shift."""

Runs: TypeAlias = Sequence[Mapping[str, Any]]
Difference: TypeAlias = dict[str, Any]
Verdict: TypeAlias = Literal["better", "worse", "undecided"]


def paired_differences(runs: Runs, baseline: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row a method other than the baseline: `method`, and under each key the `Difference`.

    A difference is the method's number minus the baseline's of the same seed, over the `num_seeds`
    seeds that have both. It has the `mean`, the sample standard deviation `std`, and `low` and
    `high`, the 95 % interval of Student's t for the mean. What is undefined (no seed; for all but
    the mean, one seed) is None.

    Args:
        runs: One record a method and seed, with its `summary`.
        baseline: The method that the others are compared to.
        keys: Numbers of the summary.

    Raises:
        ConfigError: The baseline was not run, or the summary has no such number.
        DataError: A method has two records of one seed.
    """
    _check_methods(runs, [baseline], what="baseline")
    tables = {key: _by_seed(runs, key) for key in keys}
    return [
        {"method": method}
        | {
            key: _spread_known(_difference(values[method], values[baseline]), runs, method)
            for key, values in tables.items()
        }
        for method in methods(runs)
        if method != baseline
    ]


def verdict(difference: Difference, key: str) -> Verdict:
    """Which side the whole interval is on; `undecided` if it contains 0 or there is none.

    Raises:
        ConfigError: The summary has no number of this name.
    """
    gain = _gain(difference, key)
    if gain is None or difference["low"] is None or difference["low"] <= 0 <= difference["high"]:
        return "undecided"
    return "better" if gain > 0 else "worse"


def beats(runs: Runs, method: str, other: str, keys: Sequence[str]) -> dict[str, Any]:
    """Whether a method is better than another in all of several numbers at once.

    `beats` holds if every mean difference has the right sign, `certain` if, more than that, every
    interval excludes 0; `differences` has the intervals by key.

    Raises:
        ConfigError: A method was not run, or the summary has no such number.
        DataError: A method has two records of one seed.
    """
    _check_methods(runs, [method, other], what="method")
    tables = {key: _by_seed(runs, key) for key in keys}
    found = {key: _difference(values[method], values[other]) for key, values in tables.items()}
    return {"method": method, "other": other, **is_better(found), "differences": found}


def is_better(differences: Mapping[str, Difference]) -> dict[str, bool]:
    """`beats`: every mean has the right sign; `certain`: every interval excludes 0 as well."""
    gains = [_gain(difference, key) for key, difference in differences.items()]
    sure = [verdict(difference, key) for key, difference in differences.items()]
    return {
        "beats": all(gain is not None and gain > 0 for gain in gains),
        "certain": all(value == "better" for value in sure),
    }


def order_check(runs: Runs, order: Sequence[str], key: str) -> dict[str, Any]:
    """How far the methods come out in a published order, from the worst to the best.

    `means`: the mean and spread of each in that order. `pairs`: for each two neighbours the paired
    difference `better` - `worse`, and whether the order `holds`, is `reversed` or is `undecided`.
    Undecided: the interval contains 0, or there is none. `counts` of the three. `kendall_tau`: the
    tau-b between the published rank and our mean, in -1..1, None with fewer than two means or where
    all of them are equal.
    `missing`: who was not run, or has no such number; the two beside it are then neighbours.

    Args:
        runs: One record a method and seed, with its `summary`.
        order: Methods, the worst first.
        key: A number of the summary.

    Raises:
        ConfigError: The summary has no number of this name.
        DataError: A method has two records of one seed.
    """
    sign, values = _sign(key), _by_seed(runs, key)
    means = [(method, stat(values[method].values())) for method in order if method in values]
    gains = {method: sign * value.mean for method, value in means if value.mean is not None}
    words = {"better": "holds", "worse": "reversed", "undecided": "undecided"}
    pairs = []
    for worse, better in itertools.pairwise(gains):
        difference = _difference(values[better], values[worse])
        word = words[verdict(difference, key)]
        pairs.append({"worse": worse, "better": better, "difference": difference, "verdict": word})
    return {
        "key": key,
        "means": [{"method": m, **value._asdict()} for m, value in means if m in gains],
        "pairs": pairs,
        "counts": {word: sum(pair["verdict"] == word for pair in pairs) for word in words.values()},
        "kendall_tau": _kendall_tau(list(gains.values())),
        "missing": [method for method in order if method not in gains],
    }


def ranking(runs: Runs, key: str) -> list[dict[str, Any]]:
    """The methods by their mean, the best first; equal means keep the order of the records.

    Each with `mean`, `std`, `rank` (1 + the number of better means), the paired `difference` to
    the first, and `may_be_best`. It says that the interval of that difference does not exclude 0;
    None where there is no interval. A method without the number is left out.

    Raises:
        ConfigError: The summary has no number of this name.
        DataError: A method has two records of one seed.
    """
    sign, values = _sign(key), _by_seed(runs, key)
    found = [(method, stat(values[method].values())) for method in values]
    gains = {method: sign * value.mean for method, value in found if value.mean is not None}
    order = sorted(gains, key=lambda method: -gains[method])
    differences = {
        method: _spread_known(_difference(values[method], values[order[0]]), runs, method)
        for method in order
    }
    return [
        {
            "method": method,
            **stat(values[method].values())._asdict(),
            "rank": 1 + sum(gain > gains[method] for gain in gains.values()),
            "difference": difference,
            "may_be_best": None
            if method != order[0] and difference["low"] is None
            else verdict(difference, key) != "worse",
        }
        for method, difference in differences.items()
    ]


def best_methods(runs: Runs, key: str) -> list[str]:
    """The method with the best mean, then those that its interval does not tell apart from it.

    Empty where no method has the number.

    Raises:
        ConfigError: The summary has no number of this name.
        DataError: A method has two records of one seed.
    """
    return [row["method"] for row in ranking(runs, key) if row["may_be_best"]]


def unbeaten(table: Runs) -> list[str]:
    """The methods of which no other is better in OOD accuracy or OOD ECE and no worse in the other.

    By the means of the results table, to a tenth of a percent: visible ties. A number that is
    missing is the worst.
    """
    costs = [_costs(row) for row in table]
    return [
        row["method"]
        for row, (x, y) in zip(table, costs, strict=True)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in costs)
    ]


def _costs(row: Mapping[str, Any]) -> tuple[float, float]:
    ece, accuracy = table_stat(row, CALIBRATION).mean, table_stat(row, ACCURACY).mean
    costs = (math.inf if ece is None else ece, math.inf if accuracy is None else 1 - accuracy)
    return round(costs[0], 3), round(costs[1], 3)


def methods(runs: Runs) -> list[str]:
    """The methods of the records in order of appearance."""
    return list(dict.fromkeys(run["method"] for run in runs))


def _check_methods(runs: Runs, names: Iterable[str], *, what: str) -> None:
    known = methods(runs)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{what}: got {name!r}, expected one of {', '.join(known)}."
                f"{nearest(name, known)} Name a method that was run."
            )


def _by_seed(runs: Runs, key: str) -> dict[str, dict[int, float]]:
    """For each method its numbers by seed; without those that are missing or not finite."""
    _sign(key)  # An unknown key is a mistake, not a number that is missing everywhere.
    cells: dict[tuple[str, int], float | None] = {}
    for run in runs:
        cell = (run["method"], run["seed"])
        if cell in cells:
            raise DataError(
                f"runs: got two records of {cell[0]} with seed {cell[1]}, expected one. "
                "Remove one of them."
            )
        cells[cell] = number(lookup(run, "summary", key))
    found: dict[str, dict[int, float]] = {method: {} for method in methods(runs)}
    for (method, seed), value in cells.items():
        if value is not None:
            found[method][seed] = value
    return found


def _difference(values: Mapping[int, float], others: Mapping[int, float]) -> Difference:
    """The paired difference over the seeds that both have."""
    paired = [value - others[seed] for seed, value in values.items() if seed in others]
    mean, std = stat(paired)
    low, high = _interval(Stat(mean, std), len(paired))
    return {"mean": mean, "std": std, "num_seeds": len(paired), "low": low, "high": high}


def _spread_known(difference: Difference, runs: Runs, method: str) -> Difference:
    """Without spread and interval, where the rows of two seeds share fits."""
    if method not in overlapping(runs):
        return difference
    return difference | {"std": None, "low": None, "high": None}


def _interval(value: Stat, num_seeds: int) -> tuple[float | None, float | None]:
    """The mean -+ t(0.975, n - 1) std / sqrt(n)."""
    if value.mean is None or value.std is None:
        return None, None
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, num_seeds - 1))
    half = quantile * value.std / math.sqrt(num_seeds)
    return value.mean - half, value.mean + half


def _gain(difference: Difference, key: str) -> float | None:
    """The mean difference, positive where it is an improvement."""
    sign, mean = _sign(key), difference["mean"]
    return None if mean is None else sign * mean


def _sign(key: str) -> int:
    """1 where higher is better, -1 where lower is."""
    if key in COLUMNS:
        return catalogue.of(key, catalogue.SUMMARY).sign
    raise ConfigError(
        f"key: got {key!r}, expected one of {', '.join(COLUMNS)}.{nearest(key, COLUMNS)} "
        "Name a number of the summary."
    )


def _kendall_tau(values: Sequence[float]) -> float | None:
    """tau-b between the position and the value."""
    if len(set(values)) < 2:
        return None
    return float(stats.kendalltau(range(len(values)), values).statistic)


def overlapping(runs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The rows made of several fits, of which two seeds share some: no independent repeats."""
    members: dict[str, list[int]] = {}
    for run in runs:
        seeds = run.get("combination", {}).get("seeds", [])
        members.setdefault(run["method"], []).extend(seeds)
    return {method for method, seeds in members.items() if len(set(seeds)) < len(seeds)}
