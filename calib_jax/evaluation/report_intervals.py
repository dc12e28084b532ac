"""The bootstrap intervals of a run's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib_jax.evaluation import report_data, report_html, report_selection, report_tables
from calib_jax.evaluation.report_data import Stat
from calib_jax.evaluation.report_html import Cell, Row, paragraph

Results = Mapping[str, Any]


def intervals(results: Results) -> str:
    """The first seed's numbers and their intervals, over the shifts and by data set (folded)."""
    first = {run["method"]: run for run in reversed(results["runs"])}
    methods = report_selection.drawn(results)
    keys = report_data.names(results, "intervals", results["datasets"]["id"])
    if not keys:
        return ""
    rows: list[Row] = []
    for dataset in report_data.evaluated(results):
        rows.append(Row(dataset))
        rows.extend(
            Row(
                method,
                [_cell(first.get(method), "metrics", "intervals", dataset, key=k) for k in keys],
                of,
            )
            for method, of in methods.items()
        )
    first_seed = " of the first seed" * report_data.has_seeds(results)
    note = paragraph(
        f"The number{first_seed} and its {100 * report_data.level(results):g} % percentile "
        "interval over resampled test examples. It says nothing on other seeds or models. A "
        "calibration error is biased upward, and once more in a resample: its interval lies too "
        "high and may miss it; read the width. " + report_selection.remark(results)
    )
    table = report_html.table(["method", *map(report_tables.metric_heading, keys)], rows)
    return report_html.folded("Every interval", note + _over_shifts(results, first) + table)


def _over_shifts(results: Results, first: Mapping[str, Mapping[str, Any]]) -> str:
    """The intervals of the mean and the worst over the shifts; nothing where there are none."""
    found = set(report_data.names(results, "summary_intervals"))
    shown = [column for column in report_tables.ALL_COLUMNS if column.key in found]
    if not shown:
        return ""
    rows = [
        Row(
            method,
            [_cell(first.get(method), "summary", "summary_intervals", key=c.key) for c in shown],
            of,
        )
        for method, of in report_selection.drawn(results).items()
    ]
    return report_html.table(["method", *(column.heading for column in shown)], rows)


def _cell(run: Mapping[str, Any] | None, values: str, ends: str, *path: str, key: str) -> Cell:
    """`81.2 [80.1, 82.3]` of one run."""
    interval = report_data.lookup(run, ends, *path, key) or ()
    found = [report_data.lookup(run, values, *path, key), *interval]
    middle, *rest = (report_tables.metric(key, Stat(report_data.number(x))) for x in found)
    return Cell(f"{middle} [{', '.join(rest)}]" if rest else middle)
