"""A study: several experiments with the same methods, compared in one JSON-able dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.core.errors import DataError
from calib_jax.report import data
from calib_jax.report import published as papers
from calib_jax.report.comparison import (
    ACCURACY,
    CALIBRATION,
    best_methods,
    is_better,
    order_check,
    paired_differences,
    ranking,
    unbeaten,
)
from calib_jax.report.tables import COLUMNS
from calib_jax.runs.bound_record import bound_record
from calib_jax.runs.page_record import drawn_methods

_KEPT = (
    *("title", "created", "calib_jax_version", "environment", "num_bins", "table_score"),
    *("tuned_on", "datasets", "seeds", "table"),
)
_KEPT_OF_RUNS = ("method", "seed", "num_steps", "summary")


def collect_study(
    results: Mapping[str, Mapping[str, Any]],
    *,
    title: str,
    order: Sequence[str],
    baselines: Sequence[str] = ("flyp", "carot"),
    calibrated: Sequence[str] = ("carot", "tracer"),
    published: Sequence[papers.Published] = papers.IMAGENET,
) -> dict[str, Any]:
    """Everything that the page of a study shows, made of the `results.json` of its experiments.

    Each experiment has its table, data, seeds and machine, and:

    - `paired`: the differences to each baseline.
    - `order`: the published order in OOD accuracy.
    - `ranking`: the methods by OOD ECE.
    - `leaders`: those that may be the best.
    - `better`: those better in OOD accuracy and OOD ECE at once than each of `calibrated` among the
      baselines.
    - `tuning`: the trials of each method, where the results have them.
    - `runs`: the summary of each.
    - `unbeaten`: those that none beats in both numbers.
    - `page`: which methods are drawn and what is said of CaRot's bound.

    Args:
        results: `results.json` of each experiment by its name; may have `tuning`: for each method
            `chosen`, the name of one of its `trials` (`name`, `score`), and the score's `metric`.
        title: The page's headline.
        order: The methods in their published order of OOD accuracy, the worst first; those that
            were not run are listed as missing.
        baselines: Run in every experiment.
        calibrated: The methods published as best in OOD ECE.
        published: The papers' own numbers.

    Raises:
        ConfigError: A baseline was not run.
        DataError: No experiments; results of another schema, without a finished method or with
            two records of one; tuning that chose none of its trials.
    """
    if not results:
        raise DataError("study: got no results, expected at least one experiment. Run one.")
    return {
        "title": title,
        "baselines": list(baselines),
        "calibrated": list(calibrated),
        "experiments": {
            name: _experiment(name, result, order, baselines, calibrated)
            for name, result in results.items()
        },
        "published": [row._asdict() for row in published],
    }


def _experiment(
    name: str,
    results: Mapping[str, Any],
    order: Sequence[str],
    baselines: Sequence[str],
    calibrated: Sequence[str],
) -> dict[str, Any]:
    data.check(results)
    runs = results["runs"]
    paired: dict[str, list[dict[str, Any]]] = {}
    for baseline in baselines:
        rows = paired_differences(runs, baseline, COLUMNS)
        paired[baseline] = [
            row | is_better({key: row[key] for key in (ACCURACY, CALIBRATION)}) for row in rows
        ]
    rivals = {name: rows for name, rows in paired.items() if name in calibrated}
    return {key: results.get(key) for key in _KEPT} | {
        "name": name,
        "paired": paired,
        "order": order_check(runs, order, ACCURACY),
        "ranking": ranking(runs, CALIBRATION),
        "leaders": {key: best_methods(runs, key) for key in (ACCURACY, CALIBRATION)},
        "better": {level: _better(rivals, level) for level in ("beats", "certain")},
        "tuning": _tuning(name, results.get("tuning") or {}),
        "runs": [{key: run.get(key) for key in _KEPT_OF_RUNS} for run in runs],
        "unbeaten": unbeaten(results["table"]),
        "page": {"drawn": drawn_methods(results), "bound": bound_record(runs)},
    }


def _better(rivals: Mapping[str, Sequence[Mapping[str, Any]]], level: str) -> list[str]:
    """The methods that are better than each of the rivals."""
    wins = [{row["method"] for row in rows if row[level]} for rows in rivals.values()]
    others = [row["method"] for row in next(iter(rivals.values()), ())]
    return [m for m in others if m not in rivals and all(m in won for won in wins)]


def _tuning(name: str, tuning: Mapping[str, Any]) -> dict[str, Any]:
    """The trials of each method and the range of their scores, None for one that broke down."""
    found = {}
    for method, record in tuning.items():
        trials = [trial["name"] for trial in record["trials"]]
        if record["chosen"] not in trials:
            raise DataError(
                f"tuning of {method} in {name}: got {record['chosen']!r} as chosen, expected one "
                f"of its trials: {', '.join(trials)}. Tune it again."
            )
        scores = [data.number(trial["score"]) for trial in record["trials"]]
        rows = [{"name": n, "score": s} for n, s in zip(trials, scores, strict=True)]
        known = [score for score in scores if score is not None]
        found[method] = {
            "chosen": record["chosen"],
            "metric": record["metric"],
            "trials": rows,
            "lowest": min(known, default=None),
            "highest": max(known, default=None),
            "num_failed": len(scores) - len(known),
        }
    return found
