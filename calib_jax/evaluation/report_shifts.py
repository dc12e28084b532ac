"""The sections of the report page on distribution shift: bars, scatter, weight-space curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.evaluation import (
    report_data,
    report_figures,
    report_html,
    report_selection,
    report_tables,
)
from calib_jax.evaluation.report_data import Stat, table_stat
from calib_jax.evaluation.report_figures import INK, OTHER, Style, style
from calib_jax.evaluation.report_html import Cell, Row, paragraph
from calib_jax.evaluation.report_scatter import Point, scatter

Results = Mapping[str, Any]

# As many shifts as have a colour of their own; more are drawn alike, their mean above them.
_MAX_COLOURED = 8
_MAX_NAMED = 20  # with more shifts their names hide each other


def shifts(results: Results) -> str:
    """Accuracy and ECE on every shift: scatter, bars of the drawn methods, tables of all."""
    if not report_data.evaluated(results)[1:]:
        return ""
    remark = report_selection.remark(results)
    return (
        (paragraph(remark) if remark else "")
        + _scatters(results)
        + _bars(results)
        + "".join(
            report_html.folded(f"{title} of every method on every shift", _table(results, key))
            for key, title in (("accuracy", "Accuracy"), (_ece(results), "ECE"))
        )
        + _robustness(results)
    )


def weight_curves(results: Results) -> str:
    """Accuracy and ECE under shift along the line from the pre-trained to the fine-tuned model."""
    clean, parts = results["datasets"]["id"], ""
    for method, curve in (results.get("curves") or {}).items():
        splits = {name: values for name, values in curve["splits"].items() if name != clean}
        if clean not in curve["splits"] or not splits:
            continue
        figures = ""
        for key, title in (("accuracy", "OOD accuracy, % ↑"), ("ece_15", "OOD ECE, % ↓")):
            svg = _weight_curve(curve["splits"][clean]["accuracy"], splits, key, title, name=method)
            figures += report_html.figure(svg, "", title=f"{method}: {title}")
        parts += f'<div class="figures">{figures}</div>{_curve_legend(splits)}'
    if not parts:
        return ""
    text = (
        "WiSE-FT: a mark is a model whose weights are alpha times the fine-tuned ones and "
        "(1 - alpha) times those that training started from; ○ the first alpha, ● the last. Where "
        "accuracy under shift rises on the way back from ●, it costs no training."
    )
    return f"<h3>Between two models</h3>{paragraph(text)}{parts}"


def _ece(results: Results) -> str:
    return f"ece_{results.get('num_bins')}"


def _scatters(results: Results) -> str:
    """Mean OOD accuracy against mean OOD ECE of all methods; each shift of the drawn methods."""
    styles, several = report_selection.drawn(results), len(results["table"]) > 1
    datasets = report_data.evaluated(results)[1:]
    names_fit = not several and len(datasets) <= _MAX_NAMED
    methods = [
        Point(
            row["method"],
            table_stat(row, "ood_ece"),
            table_stat(row, "ood_accuracy"),
            styles.get(row["method"], OTHER),
            named=row["method"] in styles,
        )
        for row in results["table"]
        if several
    ]
    each = [
        Point(
            f"{method}, {dataset}" if several else dataset,
            Stat(report_data.over_seeds(results, method, "metrics", dataset, _ece(results)).mean),
            Stat(report_data.over_seeds(results, method, "metrics", dataset, "accuracy").mean),
            of,
            named=names_fit,
        )
        for method, of in styles.items()
        for dataset in datasets
    ]
    pointed = "A mark is a shift" + ("." if names_fit else "; point at it for its name.")
    figures = ""
    for points, title, x, y, caption in (
        (methods, "Methods", "mean OOD ECE", "mean OOD accuracy", "A mark is a method, its mean."),
        (each, "Every shift", "ECE", "accuracy", pointed),
    ):
        svg = scatter(title, points, x=f"← better: {x}, %", y=f"{y}, %: better →")
        if svg and len(points) > 1:
            figures += report_html.figure(svg, caption, title=title)
    if not figures:
        return ""
    legend = report_html.legend(styles.items(), line=False)
    return legend + f'<div class="figures">{figures}</div>'


def _bars(results: Results) -> str:
    """Accuracy and ECE of the drawn methods on every shift, as bars."""
    styles, datasets = report_selection.drawn(results), report_data.evaluated(results)
    figures = ""
    for key, title, axis, limit in (
        ("accuracy", "Accuracy ↑", "accuracy, %", 100.0),
        (_ece(results), "Calibration error ↓", f"ECE ({results.get('num_bins')} bins), %", None),
    ):
        stats = [
            [report_data.over_seeds(results, m, "metrics", d, key) for d in datasets]
            for m in styles
        ]
        caption = "First the in-distribution examples, below the line the shifts"
        caption += "; bars in the order of the legend." if len(styles) > 1 else "."
        if report_data.has_seeds(results):
            caption += " Whiskers: one standard deviation over the seeds."
        svg = report_figures.bars(f"{title} by data set", datasets, stats, axis=axis, limit=limit)
        figures += report_html.figure(svg, caption, title=title)
    return f'<div class="figures">{figures}</div>'


def _robustness(results: Results) -> str:
    """Effective robustness, where baseline models have a line."""
    key = "effective_robustness"
    if not _datasets(results, key):
        return ""
    note = paragraph(
        "OOD accuracy beyond what the line of the baseline models (in the config) says for the "
        "same ID accuracy."
    )
    return report_html.folded("Effective robustness", note + _table(results, key, unit="points"))


def _datasets(results: Results, key: str) -> list[str]:
    """The data sets that have a metric in any run."""
    datasets = report_data.evaluated(results)
    return [d for d in datasets if key in report_data.names(results, "metrics", d)]


def _table(results: Results, key: str, *, unit: str = "%") -> str:
    """One metric: methods down, data sets across, the best of each column marked."""
    methods, datasets = report_data.methods(results), _datasets(results, key)
    better = report_tables.higher_is_better(key)
    columns = []
    for dataset in datasets:
        stats = [report_data.over_seeds(results, m, "metrics", dataset, key) for m in methods]
        best = report_tables.best(stats, higher_is_better=better)
        columns.append(
            [Cell(report_tables.percent(Stat(s.mean)), i in best) for i, s in enumerate(stats)]
        )
    styles = report_selection.drawn(results)
    rows = [Row(m, [c[i] for c in columns], styles.get(m)) for i, m in enumerate(methods)]
    arrow = "↑" if better else "↓"
    note = paragraph(f"In {unit}{', mean over the seeds' * report_data.has_seeds(results)}.")
    return note + report_html.table(["method", *(f"{d} {arrow}" for d in datasets)], rows)


def _weight_curve(
    across: Sequence[float | None],
    splits: Mapping[str, Mapping[str, Sequence[float | None]]],
    key: str,
    axis: str,
    *,
    name: str,
) -> str:
    """A line a shift over ID accuracy, and their mean."""
    x = 100 * np.asarray(across, np.float64)
    values = {name: 100 * np.asarray(of[key], np.float64) for name, of in splits.items()}
    with report_figures.figure_svg(f"{axis} along the weights of {name}", 300) as (figure, out):
        axes = figure.add_subplot()
        for i, y in enumerate(values.values()):
            of = _line_style(i, len(values))
            axes.plot(
                x, y, color=of.color, linewidth=1.4, linestyle=(0, of.dashes) if of.dashes else "-"
            )
        mean = np.mean(list(values.values()), axis=0)
        axes.plot(x, mean, color=INK.color, linewidth=2.4, marker=".", markersize=7)
        ends: dict[str, Any] = {"color": INK.color, "linestyle": "", "marker": "o", "markersize": 8}
        axes.plot(x[:1], mean[:1], **ends, markerfacecolor="none")
        axes.plot(x[-1:], mean[-1:], **ends)
        axes.set(xlabel="ID accuracy, %", ylabel=axis)
        report_figures.finish(axes, grid="y")
    return out["svg"]


def _line_style(index: int, num_lines: int) -> Style:
    return style(index) if num_lines <= _MAX_COLOURED else OTHER


def _curve_legend(splits: Mapping[str, Any]) -> str:
    """The shifts that have a colour, or one entry for all of them, and their mean."""
    entries = [(name, style(i)) for i, name in enumerate(splits)]
    if len(entries) > _MAX_COLOURED:
        entries = [(f"each of {len(entries)} shifts", OTHER)]
    return report_html.legend([*entries, ("their mean", INK)], line=True)
