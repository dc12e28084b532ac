"""`results.json`, key `page`: the numbers of the report that are made of those of several runs.

Means over seeds and over shifts, pooled diagrams, curves, the bound, and which methods lead and are
drawn. The report formats them. They are made anew of the records whenever a run's page is written,
so results of an earlier version, which lack them, have a page too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.evaluation.split_metrics import finite
from calib_jax.metrics import catalogue
from calib_jax.report import data, intervals, tables
from calib_jax.report.data import Stat, lookup, number, stat
from calib_jax.report.selection import MAX_DRAWN
from calib_jax.report.tables import ALL_COLUMNS, COLUMNS
from calib_jax.report.training import LAST
from calib_jax.runs import page_curves
from calib_jax.runs.bound_record import bound_record

RAW = "raw"
"""The version of a model that nothing was fitted to."""

_AVERAGED = ("metrics", "detection", "calibrated", "conformal")

Results = Mapping[str, Any]


def with_page(results: Results, history: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The results with the numbers of their page under `page`.

    Args:
        results: The content of `results.json`.
        history: The records of `metrics.jsonl`, under the names of the table.

    Raises:
        DataError: The results mix binnings.
    """
    clean, *shifted = data.evaluated(results)
    groups = {"id": [clean]} | ({"ood": shifted} if shifted else {})
    methods = data.methods(results)
    curves = {
        "reliability": _grouped(page_curves.pooled_reliability, results, methods, groups),
        "risk_coverage": _grouped(page_curves.risk_coverage, results, methods, groups),
        "spectrum": {
            method: {
                "whole": page_curves.spectrum(results, method),
                "last": page_curves.spectrum(results, method, last=LAST),
            }
            for method in methods
        },
    }
    means = {method: _means(_runs(results, method)) for method in methods}
    page = {
        "drawn": drawn_methods(results),
        "leaders": leaders(results),
        "means": means,
        "over_shifts": {method: _over_shifts(results, method) for method in methods},
        "sets_over_shifts": {m: _sets_over_shifts(means[m], shifted) for m in methods},
        "calibration": {name: _fall(results, name) for name in data.names(results, "calibrated")},
        "half_widths": _half_widths(results),
        **curves,
        "training": page_curves.training(history),
        "curves": {m: _mean_curve(of, clean) for m, of in (results.get("curves") or {}).items()},
        "bound": bound_record(results["runs"]),
    }
    return {**results, "page": page}


def _runs(results: Results, method: str) -> list[Mapping[str, Any]]:
    return [run for run in results["runs"] if run["method"] == method]


def _grouped(
    make: Callable[[Results, str, Sequence[str]], Any],
    results: Results,
    methods: Sequence[str],
    groups: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Any]]:
    """By method, of the ID split and of all shifts together."""
    return {
        method: {group: make(results, method, datasets) for group, datasets in groups.items()}
        for method in methods
    }


def drawn_methods(results: Results) -> list[str]:
    """The methods that figures show, in the order of the table.

    All of them where there are at most `MAX_DRAWN`; else the first, and the best, second best and
    so on of each column of the table until there are enough.
    """
    methods = data.methods(results)
    if len(methods) <= MAX_DRAWN:
        return methods
    orders = [_order(results, key) for key in COLUMNS]
    by_rank = (order[k] for k in range(len(methods)) for order in orders if k < len(order))
    # Methods without any number come last, so that there are enough.
    chosen = list(dict.fromkeys([0, *by_rank, *range(len(methods))]))[:MAX_DRAWN]
    return [methods[i] for i in sorted(chosen)]


def _order(results: Results, key: str) -> list[int]:
    """The positions of the methods with the number, the best first."""
    sign = catalogue.of(key).sign
    stats = [data.table_stat(row, key) for row in results["table"]]
    found = [(-sign * s.mean, i) for i, s in enumerate(stats) if s.mean is not None]
    return [i for _, i in sorted(found)]


def leaders(results: Results) -> dict[str, dict[str, Any]]:
    """Of each column who leads it, visible ties too, who is next, and whether the lead is sure.

    `relation` is `ahead` where the lead exceeds the larger spread, `within_spread` where it does
    not, None without spreads. A column without a contest is left out.
    """
    methods, found = data.methods(results), {}
    for key, stats, marked in tables.summary(results):
        order = _order(results, key)
        if marked:
            others = [i for i in order if i not in marked]
            following = others[0] if others else None
            found[key] = {
                "methods": [methods[i] for i in order if i in marked],
                "next": None if following is None else methods[following],
                "relation": None
                if following is None
                else _relation(stats[order[0]], stats[following]),
            }
    return found


def _relation(first: Stat, second: Stat) -> str | None:
    if first.mean is None or second.mean is None or first.std is None or second.std is None:
        return None
    close = abs(first.mean - second.mean) <= max(first.std, second.std)
    return "within_spread" if close else "ahead"


def _means(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`mean` and `std` over the runs of a method, of every number that is one in any of them."""
    return _averaged([{key: run.get(key) for key in _AVERAGED} for run in runs]) or {}


def _averaged(trees: Sequence[object]) -> dict[str, Any] | None:
    """The same tree with means for leaves; None where no run has a number."""
    branches = [tree for tree in trees if isinstance(tree, Mapping)]
    if not branches:
        mean = stat(trees)
        return None if mean.mean is None else mean._asdict()
    keys = dict.fromkeys(key for branch in branches for key in branch)
    found = {key: _averaged([branch.get(key) for branch in branches]) for key in keys}
    return {key: value for key, value in found.items() if value is not None} or None


def _over_shifts(results: Results, method: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Raw and of each calibrator the mean over the shifts of ECE and NLL, over the seeds."""
    shifted = data.evaluated(results)[1:]
    return {
        version: {
            key: _mean_over(results, method, version, shifted, key)._asdict()
            for key in (data.ece(results), "nll")
        }
        for version in (RAW, *data.names(results, "calibrated"))
        if shifted
    }


def _mean_over(
    results: Results, method: str, version: str, datasets: Sequence[str], key: str
) -> Stat:
    """A metric's mean over data sets, each counting the same; None where one has no number."""
    path = ("metrics",) if version == RAW else ("calibrated", version, "metrics")
    means = []
    for run in _runs(results, method):
        numbers = [number(lookup(run, *path, dataset, key)) for dataset in datasets]
        means.append(_mean(numbers) if None not in numbers else None)
    return stat(means)


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def _sets_over_shifts(means: Mapping[str, Any], shifted: Sequence[str]) -> dict[str, Any]:
    """Of each conformal score what its sets do over the shifts: two means, and the worst."""
    found = {}
    for score, of_splits in (means.get("conformal") or {}).items():
        if score != "alpha" and shifted:
            coverage, size = (
                [lookup(of_splits, dataset, key, "mean") for dataset in shifted]
                for key in ("coverage", "mean_size")
            )
            known = [value for value in coverage if value is not None]
            found[score] = {
                "coverage": _mean(coverage),
                "worst_coverage": min(known, default=None),
                "mean_size": _mean(size),
            }
    return found


def _fall(results: Results, calibrator: str) -> dict[str, Any]:
    """Whether the mean OOD ECE (without shifts the ID ECE) falls by a calibrator, by method.

    `num_methods` with both numbers, their means `before` and `after`, and those where it does not
    fall.
    """
    clean, *shifted = data.evaluated(results)
    pairs = {}
    for method in data.methods(results):
        before, after = (
            _mean_over(results, method, version, shifted or [clean], data.ece(results)).mean
            for version in (RAW, calibrator)
        )
        if before is not None and after is not None:
            pairs[method] = (before, after)
    return {
        "num_methods": len(pairs),
        "before": _mean(before for before, _ in pairs.values()),
        "after": _mean(after for _, after in pairs.values()),
        "does_not_fall": [method for method, (before, after) in pairs.items() if after >= before],
    }


def _half_widths(results: Results) -> dict[str, dict[str, float]]:
    """Half the width of the intervals of the table's calibration errors, of the first seeds."""
    found: dict[str, dict[str, float]] = {}
    for method, run in intervals.first_runs(results).items():
        for key in ALL_COLUMNS:
            if not catalogue.of(key).biased:
                continue
            values, ends, *path = intervals.place(results, key)
            pair = lookup(run, ends, *path)
            if pair:
                found.setdefault(method, {})[key] = (pair[1] - pair[0]) / 2
    return found


def _mean_curve(curve: Mapping[str, Any], clean: str) -> dict[str, list[float | None]]:
    """Of each metric of a curve between two models its mean over the shifts, at each alpha."""
    shifted = [of for name, of in curve["splits"].items() if name != clean]
    keys = dict.fromkeys(key for of in shifted for key in of)
    means = {
        key: np.mean([np.asarray(of[key], np.float64) for of in shifted], axis=0) for key in keys
    }
    return {key: [finite(value) for value in values.tolist()] for key, values in means.items()}
