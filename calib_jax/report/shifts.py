"""The sections of the report page on distribution shift: bars, scatter, weight-space curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from calib_jax.metrics.metric import ARROWS
from calib_jax.report import data, figures, markup, selection, tables
from calib_jax.report.data import Stat, table_stat
from calib_jax.report.figures import INK, OTHER, Style, style
from calib_jax.report.markup import Cell, Row, paragraph
from calib_jax.report.scatter import Point, scatter

Results = Mapping[str, Any]

# As many shifts as have a colour of their own; more are drawn alike.
_MAX_COLOURED = 8
_MAX_NAMED = 20  # with more shifts their names hide each other
_ID = INK._replace(dashes=(5, 1.5))


class _WeightLine(NamedTuple):
    """A line over alpha: its split (None: the mean over the shifts), its style and its width."""

    split: str | None
    style: Style
    width: float


def shifts(results: Results) -> str:
    """Accuracy and ECE on every shift: scatter, bars of the drawn methods, tables of all."""
    if not data.evaluated(results)[1:]:
        return ""
    remark = selection.remark(results)
    return (
        (paragraph(remark) if remark else "")
        + _scatters(results)
        + _bars(results)
        + "".join(
            markup.folded(f"{title} of every method on every shift", _table(results, key))
            for key, title in (("accuracy", "Accuracy"), (data.ece(results), "ECE"))
        )
        + _robustness(results)
    )


def weight_curves(results: Results) -> str:
    """Accuracy and ECE of every split along the line from the start to the fine-tuned model."""
    clean, parts = results["datasets"]["id"], ""
    for method, curve in (results.get("curves") or {}).items():
        lines = _weight_lines(list(curve["splits"]), clean)
        means, panes = results["page"]["curves"][method], ""
        for key, title in (("accuracy", "accuracy, % ↑"), ("ece_15", "ECE, % ↓")):
            heights = {
                name: means[key] if line.split is None else curve["splits"][line.split][key]
                for name, line in lines.items()
            }
            name = f"{method}: {title}"
            if lines:
                svg = _weight_curve(curve["alphas"], heights, lines, name=name, axis=title)
                panes += markup.figure(svg, "", title=name)
        if panes:
            parts += f'{_weight_legend(lines)}<div class="figures">{panes}</div>'
    if not parts:
        return ""
    text = (
        "WiSE-FT: the weights are alpha times the fine-tuned ones and (1 - alpha) times those that "
        "training started from; nothing more is trained. Choose an alpha on validation data, not "
        "from these figures. Point at a line for its name."
    )
    return f"<h3>Between two models</h3>{paragraph(text)}{parts}"


def _scatters(results: Results) -> str:
    """Mean OOD accuracy against mean OOD ECE of all methods; each shift of the drawn methods."""
    styles, several = selection.drawn(results), len(results["table"]) > 1
    datasets = data.evaluated(results)[1:]
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
            Stat(data.over_seeds(results, method, "metrics", dataset, data.ece(results)).mean),
            Stat(data.over_seeds(results, method, "metrics", dataset, "accuracy").mean),
            of,
            named=names_fit,
        )
        for method, of in styles.items()
        for dataset in datasets
        if len(datasets) > 1  # else the mean is the shift
    ]
    pointed = "A mark is a shift" + ("." if names_fit else "; point at it for its name.")
    mean = f"A mark is a method{', its mean over the seeds' * data.has_seeds(results)}."
    panes = ""
    for points, title, x, y, caption in (
        (methods, "Methods", "mean OOD ECE", "mean OOD accuracy", mean),
        (each, "Every shift", "ECE", "accuracy", pointed),
    ):
        svg = scatter(title, points, x=f"← better: {x}, %", y=f"{y}, %: better →")
        if svg and len(points) > 1:
            panes += markup.figure(svg, caption, title=title)
    if not panes:
        return ""
    legend = markup.legend(styles.items(), line=False)
    return legend + f'<div class="figures">{panes}</div>'


def _bars(results: Results) -> str:
    """Accuracy and ECE of the drawn methods on every shift, as bars."""
    styles, datasets = selection.drawn(results), data.evaluated(results)
    panes = ""
    for key, title, axis, limit in (
        ("accuracy", "Accuracy ↑", "accuracy, %", 100.0),
        (
            data.ece(results),
            "Calibration error ↓",
            f"ECE ({results.get('num_bins')} bins), %",
            None,
        ),
    ):
        stats = [[data.over_seeds(results, m, "metrics", d, key) for d in datasets] for m in styles]
        caption = "First the in-distribution examples, below the line the shifts"
        caption += "; bars in the order of the legend." if len(styles) > 1 else "."
        if data.has_seeds(results):
            caption += " Whiskers: one standard deviation over the seeds."
        svg = figures.bars(f"{title} by data set", datasets, stats, axis=axis, limit=limit)
        panes += markup.figure(svg, caption, title=title)
    return f'<div class="figures">{panes}</div>'


def _robustness(results: Results) -> str:
    """Effective robustness, where baseline models have a line."""
    key = "effective_robustness"
    if not _datasets(results, key):
        return ""
    note = paragraph(
        "OOD accuracy beyond what the line of the baseline models (in the config) says for the "
        "same ID accuracy."
    )
    return markup.folded("Effective robustness", note + _table(results, key, unit="points"))


def _datasets(results: Results, key: str) -> list[str]:
    """The data sets that have a metric in any run."""
    datasets = data.evaluated(results)
    return [d for d in datasets if key in data.names(results, "metrics", d)]


def _table(results: Results, key: str, *, unit: str = "%") -> str:
    """One metric: methods down, data sets across, the best of each column marked."""
    methods, datasets = data.methods(results), _datasets(results, key)
    quantity = data.quantity(results, key)
    columns = []
    for dataset in datasets:
        stats = [data.over_seeds(results, m, "metrics", dataset, key) for m in methods]
        best = tables.best(stats, quantity.direction)
        columns.append([Cell(tables.percent(Stat(s.mean)), i in best) for i, s in enumerate(stats)])
    styles = selection.drawn(results)
    rows = [Row(m, [c[i] for c in columns], styles.get(m)) for i, m in enumerate(methods)]
    arrow = ARROWS[quantity.direction]
    note = paragraph(f"In {unit}{', mean over the seeds' * data.has_seeds(results)}.")
    return note + markup.table(["method", *(f"{d} {arrow}" for d in datasets)], rows)


def _weight_lines(splits: Sequence[str], clean: str) -> dict[str, _WeightLine]:
    """What each line of a figure shows, by its name, the ones that matter last: above the others.

    The shifts, each in a colour as far as there are colours, their mean and the ID split.
    """
    shifted = [name for name in splits if name != clean]
    lines = {
        name: _WeightLine(name, style(i) if len(shifted) <= _MAX_COLOURED else OTHER, 1.4)
        for i, name in enumerate(shifted)
    }
    if len(shifted) > 1:
        lines[f"mean over {len(shifted)} shifts"] = _WeightLine(None, INK, 2.4)
    if clean in splits:
        lines[f"{clean} (ID)"] = _WeightLine(clean, _ID, 1.6)
    return lines


def _weight_curve(
    alphas: Sequence[float | int],
    heights: Mapping[str, Sequence[float | int | None]],
    lines: Mapping[str, _WeightLine],
    *,
    name: str,
    axis: str,
) -> str:
    """A line for each of the lines over alpha."""
    with figures.figure_svg(name, 300) as (figure, out):
        axes = figure.add_subplot()
        for title, (_, drawn, width) in lines.items():
            values = np.asarray(heights[title], np.float64)
            axes.plot(
                alphas,
                100 * values,
                color=drawn.color,
                linewidth=width,
                linestyle=(0, drawn.dashes) if drawn.dashes else "-",
                marker="." if drawn.color == INK.color or len(alphas) == 1 else None,
                markersize=7,
            )
            # Unseen, but wide enough to point at.
            axes.plot(alphas, 100 * values, linewidth=9, alpha=0, gid=figures.titled(title))
        axes.set(xlabel="alpha: 0 pre-trained, 1 fine-tuned", ylabel=axis)
        figures.finish(axes, grid="y")
    return out["svg"]


def _weight_legend(lines: Mapping[str, _WeightLine]) -> str:
    """The lines and their colours; one entry for those without."""
    plain = [name for name, line in lines.items() if line.style == OTHER]
    entries = [(name, line.style) for name, line in lines.items() if name not in plain]
    if plain:
        entries.insert(0, (f"each of {len(plain)} shifts", OTHER))
    return markup.legend(entries, line=True)
