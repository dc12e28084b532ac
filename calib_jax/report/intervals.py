"""The bootstrap intervals of a run's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import Quantity
from calib_jax.report import data, markup, selection, tables
from calib_jax.report.data import Stat
from calib_jax.report.markup import Cell, Row, escape, paragraph

Results = Mapping[str, Any]


def short(results: Results) -> str:
    """The numbers of the results table and their intervals; nothing with several seeds."""
    table = _of_summary(results, first_runs(results))
    if not table or data.has_seeds(results):
        return ""
    text = (
        "Percentile bootstrap: other test examples like these, not other seeds or models. After ± "
        "half the width of a calibration error's interval, which itself lies too high. "
    )
    title = f"{100 * data.level(results):g} % intervals over test examples"
    return f"<h3>{title}</h3>{table}{paragraph(text + selection.table_remark(results))}"


def intervals(results: Results) -> str:
    """The first seed's numbers and their intervals, by data set (folded).

    With several seeds the summary too, which `short` shows of one.
    """
    first = first_runs(results)
    datasets = data.evaluated(results)
    if not data.names(results, "intervals", datasets[0]):
        return ""
    first_seed = " of the first seed" * data.has_seeds(results)
    note = paragraph(
        f"The number{first_seed} and its {100 * data.level(results):g} % percentile "
        "interval over resampled test examples. It says nothing on other seeds or models. A "
        "calibration error is biased upward, and once more in a resample: its interval lies too "
        "high and may miss it; read the width. " + selection.table_remark(results)
    )
    folds = _of_summary(results, first) * data.has_seeds(results)
    folds += _by_data_set(results, first, datasets)
    for name in data.names(results, "calibrated"):
        table = _by_data_set(results, first, datasets, "calibrated", name)
        folds += f"<h3>After {escape(name.replace('_', ' '))}</h3>{table}" if table else ""
    return markup.folded("Every interval", note + folds + _of_detection(results, first))


def first_runs(results: Results) -> dict[str, Mapping[str, Any]]:
    """The run of each method's first seed."""
    return {run["method"]: run for run in reversed(results["runs"])}


def _by_data_set(
    results: Results, first: Mapping[str, Mapping[str, Any]], datasets: Sequence[str], *path: str
) -> str:
    """Methods by data set down, metrics across; raw, or under the path of a calibrator."""
    keys = dict.fromkeys(
        k for dataset in datasets for k in data.names(results, *path, "intervals", dataset)
    )
    rows: list[Row] = []
    for dataset in datasets:
        rows.append(Row(dataset))
        for method, style in selection.drawn(results).items():
            run = data.lookup(first.get(method), *path)
            cells = [
                _cell(run, "metrics", "intervals", dataset, key=key, of=data.quantity(results, key))
                for key in keys
            ]
            rows.append(Row(method, cells, style))
    headings = ["method", *(data.quantity(results, key).heading for key in keys)]
    return markup.table(headings, rows) if keys else ""


def _of_detection(results: Results, first: Mapping[str, Mapping[str, Any]]) -> str:
    """A table a score: methods by OOD set down, the numbers of detection across."""
    sets = data.out_of_distribution(results)
    parts = ""
    for score in data.names(results, "detection_intervals", *sets[:1]) if sets else ():
        keys = data.names(results, "detection_intervals", sets[0], score)
        rows: list[Row] = []
        for dataset in sets:
            rows.append(Row(dataset))
            for method, style in selection.drawn(results).items():
                path = ("detection", "detection_intervals", dataset, score)
                cells = [
                    _cell(first.get(method), *path, key=key, of=catalogue.of(key)) for key in keys
                ]
                rows.append(Row(method, cells, style))
        headings = ["method", *(catalogue.of(key).heading for key in keys)]
        table = markup.table(headings, rows)
        parts += f"<h3>{escape(tables.score_title(score))}</h3>{table}"
    return parts


def _of_summary(results: Results, first: Mapping[str, Mapping[str, Any]]) -> str:
    """The intervals of the results table, of calibration errors the widths; else nothing."""
    places = {key: place(results, key) for key in tables.columns(results)}
    shown = {
        key: at
        for key, at in places.items()
        if at[-1] in data.names(results, *at[1:-1])
        # With several seeds the table by data set, which has the ID split, is right below.
        and not (at[0] == "metrics" and data.has_seeds(results))
    }
    if not shown:
        return ""
    half_widths = results["page"]["half_widths"]
    rows = []
    for method, style in selection.drawn(results).items():
        cells = []
        for key, at in shown.items():
            quantity, half = catalogue.of(key), data.lookup(half_widths, method, key)
            if half is None:
                cells.append(_cell(first.get(method), *at[:-1], key=at[-1], of=quantity))
            else:
                middle = data.number(data.lookup(first.get(method), at[0], *at[2:]))
                cells.append(Cell(tables.shown(quantity, Stat(middle, half))))
        rows.append(Row(method, cells, style))
    return markup.table(["method", *map(tables.heading, shown)], rows)


def place(results: Results, key: str) -> tuple[str, ...]:
    """Where a number of the summary is, where its ends are, and its key; in both the same path."""
    clean = results["datasets"]["id"]
    metrics = {"id_accuracy": "accuracy", "id_ece": data.ece(results)}
    if key in metrics:
        return "metrics", "intervals", clean, metrics[key]
    return "summary", "summary_intervals", key


def _cell(
    run: Mapping[str, Any] | None,
    values: str,
    ends: str,
    *path: str,
    key: str,
    of: Quantity,
) -> Cell:
    """`81.2 [80.1, 82.3]` of one run."""
    found = data.lookup(run, ends, *path, key)
    middle = data.number(data.lookup(run, values, *path, key))
    if not found:
        return Cell(tables.shown(of, Stat(middle)))
    low, high = found
    shown = (tables.shown(of, Stat(x)) for x in (middle, low, high))
    return Cell("{} [{}, {}]".format(*shown))
