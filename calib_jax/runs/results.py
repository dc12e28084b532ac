"""`results.json`: every number of an experiment, with its seeds, config and machine."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from calib_jax.core.version import __version__
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.evaluation.record import MAX_MISTAKES
from calib_jax.evaluation.split_metrics import NUM_BINS
from calib_jax.metrics.metric import Metric
from calib_jax.report.comparison import overlapping
from calib_jax.report.page import Example

SCHEMA = 1


def results_of(
    runs: Sequence[Mapping[str, Any]],
    datasets: Mapping[str, Any],
    *,
    name: str,
    title: str,
    class_names: Sequence[str],
    seeds: Sequence[int],
    tuned_on: str,
    tuning: Mapping[str, Any] | None = None,
    config: Mapping[str, Any],
    table_score: str = "",
    metrics: Mapping[str, Metric] | None = None,
    wall_seconds: float,
) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        runs: One record a method and seed: `method`, `seed`, training time, `evaluate`'s record.
        datasets: Which split is what, and how large (`datasets_of`).
        name: Of the experiment.
        title: The report's headline.
        class_names: In the order of the logits.
        seeds: All of them.
        tuned_on: Where the hyper-parameters were chosen.
        tuning: For each tuned method its trials, their scores there, and which was chosen.
        config: As a dictionary.
        table_score: The OOD score of the table.
        metrics: Those of the config, beside the ones that every record has.
        wall_seconds: Of this command; finished parts of an earlier one are not counted again.
    """
    return {
        "schema": SCHEMA,
        "name": name,
        "title": title,
        "calib_jax_version": __version__,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "environment": environment(wall_seconds),
        "config": config,
        "class_names": list(class_names),
        "num_bins": NUM_BINS,
        "table_score": table_score,
        "tuned_on": tuned_on,
        "tuning": dict(tuning or {}),
        "datasets": dict(datasets),
        "seeds": list(seeds),
        "runs": list(runs),
        "table": mean_and_std(runs),
        "quantities": {
            key: {"title": one.title, "unit": one.unit, "direction": one.direction}
            for key, one in (metrics or {}).items()
        },
    }


def mean_and_std(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a method: mean and sample standard deviation over the seeds of each summary number.

    The deviation is None for one seed, and for rows of `overlapping` fits; both are None where no
    seed has the number.
    """
    shared = overlapping(runs)
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        summaries = [run["summary"] for run in runs if run["method"] == method]
        row: dict[str, Any] = {"method": method}
        for key in dict.fromkeys(key for values in summaries for key in values):
            values = [values[key] for values in summaries if values.get(key) is not None]
            row[key] = {
                "mean": float(np.mean(values)) if values else None,
                "std": float(np.std(values, ddof=1))
                if len(values) > 1 and method not in shared
                else None,
            }
        rows.append(row)
    return rows


def datasets_of(evaluation: Evaluation, splits: Mapping[str, ImageSplit]) -> dict[str, Any]:
    """Which split is what, and the number of its examples.

    Args:
        evaluation: Which split is what.
        splits: The opened splits.
    """
    return {
        "id": evaluation.id_name,
        "shifts": list(evaluation.shifts),
        "near": list(evaluation.near),
        "far": list(evaluation.far),
        "num_examples": {name: len(split) for name, split in splits.items()},
    }


def environment(wall_seconds: float) -> dict[str, Any]:
    """Where a run has run, and how long its command took."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
        "wall_seconds": wall_seconds,
    }


def example_images(
    runs: Sequence[Mapping[str, Any]], splits: Mapping[str, ImageSplit], seed: int
) -> list[Example]:
    """The examples of one seed's records, with their pixels and every method's prediction.

    After them, without predictions, the most confident mistakes: `MAX_MISTAKES` of every method on
    the ID split and as many on all shifts together.
    """
    of_seed = {run["method"]: run["examples"] for run in runs if run["seed"] == seed}
    first: Mapping[str, Any] = next(iter(of_seed.values()), {})
    shown = [
        Example(
            dataset=name,
            index=row["index"],
            image=splits[name].image(row["index"]),
            label=splits[name].label_names[splits[name].label(row["index"])],
            predictions={
                method: (
                    examples[name][number]["prediction"],
                    examples[name][number]["confidence"],
                )
                for method, examples in of_seed.items()
            },
        )
        for name, rows in first.items()
        for number, row in enumerate(rows)
    ]
    return shown + _mistake_images(runs, splits, seed)


def _mistake_images(
    runs: Sequence[Mapping[str, Any]], splits: Mapping[str, ImageSplit], seed: int
) -> list[Example]:
    """Each image once; none of records that were written before there were any."""
    wanted: dict[tuple[str, int], None] = {}
    for run in runs:
        of_split = run.get("mistakes", {}) if run["seed"] == seed else {}
        for names in (list(of_split)[:1], list(of_split)[1:]):
            rows = [(name, row) for name in names for row in of_split[name]]
            rows.sort(key=lambda item: -item[1]["confidence"])
            wanted |= {(name, row["index"]): None for name, row in rows[:MAX_MISTAKES]}
    return [
        Example(
            dataset=name,
            index=index,
            image=splits[name].image(index),
            label=splits[name].label_names[splits[name].label(index)],
            predictions={},
        )
        for name, index in wanted
    ]
