"""The page of the toy experiment: the bound's quantities against what they bound."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from calib_jax.report import figures, markup
from calib_jax.report.markup import Cell, Row, escape, paragraph
from calib_jax.report.sections import config, device, duration


class Quantity(NamedTuple):
    """How a number of a model is called and shown."""

    title: str
    axis: str
    scale: float = 1.0


QUANTITIES = {
    "mean_standardized": Quantity(
        "1/σ_min and ID ECE, standardised and averaged", "mean of standardised 1/σ_min and ID ECE"
    ),
    "inverse_sigma_min": Quantity("1/σ_min", "1/σ_min"),
    "id_ece": Quantity("ID ECE", "ID ECE, %", 100.0),
    "mean": Quantity("1/σ_min and ID ECE, averaged as they are", "mean of 1/σ_min and ID ECE"),
}
OUTCOMES = {
    "ood_mse": Quantity("OOD MSE", "OOD MSE"),
    "ood_ece": Quantity("OOD ECE", "OOD ECE, %", 100.0),
}
_KINDS = {
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "pearson_within_seeds": "Pearson r within a seed",
}
_PLOTTED = ("mean_standardized", "inverse_sigma_min", "id_ece")
_MARKS = ("o", "s", "^", "D")


class Column(NamedTuple):
    """A number of a model in a table."""

    key: str
    heading: str
    digits: int
    scale: float = 1.0
    higher_is_better: bool = False


_COLUMNS = (
    Column("id_accuracy", "ID acc, % ↑", 1, 100.0, higher_is_better=True),
    Column("id_ece", "ID ECE, % ↓", 1, 100.0),
    Column("inverse_sigma_min", "1/σ_min ↓", 1),
    Column("ood_accuracy", "OOD acc, % ↑", 1, 100.0, higher_is_better=True),
    Column("ood_mse", "OOD MSE ↓", 4),
    Column("ood_ece", "OOD ECE, % ↓", 1, 100.0),
)


def write_theory_report(path: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Nothing; `path` then holds the page, the same bytes for the same results.

    Args:
      path: the HTML file to write; its folder must exist.
      results: the content of the toy experiment's `results.json`.
    """
    title, environment = escape(results["title"]), results["environment"]
    lead = (
        "Theorem 3.1 of CaRot (arXiv 2311.01723): OOD calibration error and OOD error are bounded "
        "by the ID calibration error plus d/σ_min, where σ_min is the smallest singular value of "
        "the correlation matrix of a representation of width d. Do models that have less of what "
        f"bounds have less of what is bounded? {len(results['models'])} small networks on toy "
        "data, after the paper's section 5.1."
    )
    made = (
        f"{results['created']} · calib_jax {results['calib_jax_version']} · JAX "
        f"{environment['jax']} · {device(environment)} · "
        f"{duration(environment['wall_seconds'])}"
    )
    body = (
        markup.section("answer", "What it shows", *_answer(results))
        + markup.section("figure", "Figure 3", _figures(results))
        + markup.section("best", "Best cases", _best_cases(results))
        + markup.section("details", "Every number", _details(results))
    )
    page = markup.page(
        results["title"],
        header=f"<h1>{title}</h1>{paragraph(lead, kind='lead')}",
        main=body,
        footer=paragraph(made),
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def _answer(results: Mapping[str, Any]) -> list[str]:
    """What the correlations within a seed say, and how loose the bound is."""
    groups: dict[str, list[str]] = {"with": [], "against": [], "neither": []}
    for row in results["correlations"]:
        if row["x"] in _PLOTTED:
            within, pooled = row["pearson_within_seeds"], row["pearson"]["value"]
            verdict = (
                "with" if within["low"] > 0 else "against" if within["high"] < 0 else "neither"
            )
            groups[verdict].append(
                f"{_pair(row)}: r = {within['value']:.2f} (all seeds in one: {pooled:.2f})"
            )
    meaning = {
        "with": "As the bound suggests: of networks trained on the same data, those with more of "
        "the first have more of the second.",
        "against": "Against the bound: of networks trained on the same data, those with more of "
        "the first have less of the second.",
        "neither": "Undecided: among networks trained on the same data the interval of r holds "
        "zero.",
    }
    models, width = results["models"], results["config"]["widths"][1]
    smallest = width * min(model["inverse_sigma_min"] for model in models)
    largest = max(model["ood_mse"] for model in models)
    return [
        *(
            paragraph(meaning[verdict])
            + f'<ul class="note">{"".join(f"<li>{escape(pair)}</li>" for pair in pairs)}</ul>'
            for verdict, pairs in groups.items()
            if pairs
        ),
        paragraph(
            f"As a number the bound says nothing: a correlation matrix has σ_min ≤ 1, so d/σ_min "
            f"is never below d = {width} and here never below {smallest:.0f}, while an MSE or an "
            f"ECE cannot exceed 1 (largest OOD MSE here: {largest:.2f}). Only the order of the "
            "models can be tested."
        ),
    ]


def _pair(row: Mapping[str, Any]) -> str:
    """`1/σ_min → OOD MSE`."""
    return f"{QUANTITIES[row['x']].title} → {OUTCOMES[row['y']].title}"


def _figures(results: Mapping[str, Any]) -> str:
    """A panel for each quantity and outcome, with its correlations above it."""
    objectives = list(dict.fromkeys(model["objective"] for model in results["models"]))
    panels = "".join(
        markup.figure(
            _scatter(results, row, objectives),
            _interval("Pearson r", row["pearson"])
            + ", "
            + _interval("Spearman ρ", row["spearman"])
            + ". "
            + _interval("Within a seed r", row["pearson_within_seeds"]),
            title=_pair(row),
        )
        for row in results["correlations"]
        if row["x"] in _PLOTTED
    )
    text = (
        "A mark is a network; the line is the least-squares fit. Brackets: 95 % bootstrap interval "
        "over the settings, at the data of these seeds. Every seed draws its own data and shifts "
        "all of its networks together, which the interval cannot see: “within a seed” takes the "
        "mean of each seed away first and keeps what the objectives do. The paper averages "
        "1/σ_min and the ID ECE without saying on which scale; here each is brought to mean 0 and "
        "standard deviation 1 first. Averaged as they are, 1/σ_min, never below 1, outweighs the "
        "ECE, never above 1."
    )
    return (
        paragraph(text)
        + _legend(objectives)
        + f'<div class="figures">{panels}</div>'
        + markup.folded("All correlations", _correlations(results))
    )


def _scatter(results: Mapping[str, Any], row: Mapping[str, Any], objectives: Sequence[str]) -> str:
    x, y = QUANTITIES[row["x"]], OUTCOMES[row["y"]]
    name = f"{x.title} against {y.title}"
    with figures.figure_svg(name, 280) as (figure, out):
        axes = figure.add_subplot()
        pairs = {
            o: np.array(
                [
                    (x.scale * model[row["x"]], y.scale * model[row["y"]])
                    for model in results["models"]
                    if model["objective"] == o
                ]
            ).T
            for o in objectives
        }
        everything = np.concatenate(list(pairs.values()), axis=1)
        ends = np.array([everything[0].min(), everything[0].max()])
        slope, intercept = np.polyfit(everything[0], everything[1], 1)
        axes.plot(ends, slope * ends + intercept, color=figures.INK.color, linewidth=1)
        for i, (xs, ys) in enumerate(pairs.values()):
            axes.plot(
                xs,
                ys,
                linestyle="",
                marker=_MARKS[i],
                # The few of the baseline larger, with an edge and above the others.
                markersize=5 if i else 8,
                color=figures.style(i).color,
                alpha=0.75 if i else 1,
                markeredgewidth=0 if i else 1.5,
                markeredgecolor=figures.INK.color,
                zorder=len(pairs) - i + 2,
            )
        axes.set(xlabel=x.axis, ylabel=y.axis)
        figures.finish(axes, grid="y")
    return out["svg"]


def _legend(objectives: Sequence[str]) -> str:
    """The marks of the figures and what they stand for."""
    items = ""
    for i, (objective, mark) in enumerate(zip(objectives, _MARKS, strict=True)):
        symbol = figures.symbol(mark, figures.style(i), edged=not i)
        items += f"<li>{symbol}{escape(objective)}</li>"
    return f'<ul class="legend">{items}</ul>'


def _interval(name: str, value: Mapping[str, float]) -> str:
    """`r = 0.71 [0.60, 0.80]`."""
    return f"{name} = {value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def _correlations(results: Mapping[str, Any]) -> str:
    rows = [
        Row(
            _pair(row),
            [Cell(_interval("", row[kind])[3:]) for kind in _KINDS],
        )
        for row in results["correlations"]
    ]
    return markup.table(["pair", *_KINDS.values()], rows)


def _best_cases(results: Mapping[str, Any]) -> str:
    """The best setting of each objective for each number, as in the paper's table 1."""
    settings: dict[str, dict[tuple[float, float], list[Mapping[str, Any]]]] = {}
    for model in results["models"]:
        strengths = (model["self_distillation"], model["orthogonality"])
        settings.setdefault(model["objective"], {}).setdefault(strengths, []).append(model)
    text = (
        "For each number by itself the setting with the best mean over the seeds, and the sample "
        "standard deviation over the seeds. The strength is chosen on the number that is shown, "
        "and the baseline has no strength to choose: the terms have an advantage here."
    )
    rows = [
        Row(
            objective,
            [Cell(_best(list(runs.values()), column)) for column in _COLUMNS],
            figures.style(i),
        )
        for i, (objective, runs) in enumerate(settings.items())
    ]
    headings = ["objective", *(column.heading for column in _COLUMNS)]
    return paragraph(text) + markup.table(headings, rows, wide=True)


def _best(settings: Sequence[Sequence[Mapping[str, Any]]], column: Column) -> str:
    values = column.scale * np.array([[run[column.key] for run in runs] for runs in settings])
    means = values.mean(axis=1)
    best = means.argmax() if column.higher_is_better else means.argmin()
    text = f"{means[best]:.{column.digits}f}"
    if values.shape[1] == 1:
        return text
    return f"{text} ± {values[best].std(ddof=1):.{column.digits}f}"


def _details(results: Mapping[str, Any]) -> str:
    """Every network, and the config (both folded)."""
    rows = [
        Row(
            f"{model['objective']}, seed {model['seed']}",
            [
                Cell(f"{model['self_distillation']:g}"),
                Cell(f"{model['orthogonality']:g}"),
                *(Cell(f"{c.scale * model[c.key]:.{c.digits}f}") for c in _COLUMNS),
            ],
        )
        for model in results["models"]
    ]
    headings = ["network", "weight of L_SD", "of L_OC", *(column.heading for column in _COLUMNS)]
    return markup.folded("Every network", markup.table(headings, rows)) + config(results)
