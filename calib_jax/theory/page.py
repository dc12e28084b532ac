"""The page of the toy experiment: the bound's quantities against what they bound."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import ARROWS, Quantity
from calib_jax.report import figures, markup, tables
from calib_jax.report.data import Stat
from calib_jax.report.markup import Cell, Row, escape, paragraph
from calib_jax.report.sections import config, device, duration

QUANTITIES = ("mean_standardized", "inverse_sigma_min", "id_ece", "mean")
"""What the bound is made of, by their keys in the catalogue."""

OUTCOMES = ("ood_mse", "ood_ece")
"""What it bounds."""

COLUMNS = ("id_accuracy", "id_ece", "inverse_sigma_min", "ood_accuracy", "ood_mse", "ood_ece")
"""The numbers of a model in a table."""

_KINDS = ("pearson", "spearman", "pearson_within_seeds")
_PLOTTED = ("mean_standardized", "inverse_sigma_min", "id_ece")
_AXES = {"mean_standardized": "mean of standardised 1/σ_min and ID ECE"}
_MARKS = ("o", "s", "^", "D")


def write_theory_report(path: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes the page, the same bytes for the same results.

    Args:
      path: the HTML file to write; its folder must exist.
      results: the content of the toy experiment's `results.json`, with `page`.
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
    bound = results["page"]["bound"]
    width, smallest, largest = bound["width"], bound["smallest"], bound["largest_ood_mse"]
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
    return f"{_of(row['x']).title} → {_of(row['y']).title}"


def _of(key: str) -> Quantity:
    return catalogue.of(key, catalogue.THEORY)


def _unit(quantity: Quantity) -> str:
    return ", %" if quantity.scale == 100 else ""


def _heading(key: str) -> str:
    """`ID acc, % ↑`."""
    quantity = _of(key)
    return f"{quantity.title}{_unit(quantity)} {ARROWS[quantity.direction]}"


def _figures(results: Mapping[str, Any]) -> str:
    """A panel for each quantity and outcome, with its correlations above it."""
    objectives = list(dict.fromkeys(model["objective"] for model in results["models"]))
    panels = "".join(
        markup.figure(
            _scatter(results, row, line, objectives),
            _interval("Pearson r", row["pearson"])
            + ", "
            + _interval("Spearman ρ", row["spearman"])
            + ". "
            + _interval("Within a seed r", row["pearson_within_seeds"]),
            title=_pair(row),
        )
        for row, line in zip(results["correlations"], results["page"]["lines"], strict=True)
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


def _scatter(
    results: Mapping[str, Any],
    row: Mapping[str, Any],
    line: Mapping[str, float],
    objectives: Sequence[str],
) -> str:
    x, y = _of(row["x"]), _of(row["y"])
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
        across = np.concatenate([xs for xs, _ in pairs.values()])
        ends = np.array([across.min(), across.max()])
        heights = y.scale * (line["slope"] * ends / x.scale + line["intercept"])
        axes.plot(ends, heights, color=figures.INK.color, linewidth=1)
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
        axes.set(xlabel=_AXES.get(row["x"], x.title) + _unit(x), ylabel=f"{y.title}{_unit(y)}")
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
    titles = (catalogue.of(kind, catalogue.COMPARISON).title for kind in _KINDS)
    return markup.table(["pair", *titles], rows)


def _best_cases(results: Mapping[str, Any]) -> str:
    """The best setting of each objective for each number, as in the paper's table 1."""
    text = (
        "For each number by itself the setting with the best mean over the seeds, and the sample "
        "standard deviation over the seeds. The strength is chosen on the number that is shown, "
        "and the baseline has no strength to choose: the terms have an advantage here."
    )
    rows = [
        Row(objective, [Cell(_shown(key, Stat(**best[key]))) for key in COLUMNS], figures.style(i))
        for i, (objective, best) in enumerate(results["page"]["best"].items())
    ]
    headings = ["objective", *map(_heading, COLUMNS)]
    return paragraph(text) + markup.table(headings, rows, wide=True)


def _shown(key: str, value: Stat) -> str:
    return tables.shown(_of(key), value)


def _details(results: Mapping[str, Any]) -> str:
    """Every network, and the config (both folded)."""
    rows = [
        Row(
            f"{model['objective']}, seed {model['seed']}",
            [
                Cell(f"{model['self_distillation']:g}"),
                Cell(f"{model['orthogonality']:g}"),
                *(Cell(_shown(key, Stat(model[key]))) for key in COLUMNS),
            ],
        )
        for model in results["models"]
    ]
    headings = ["network", "weight of L_SD", "of L_OC", *map(_heading, COLUMNS)]
    return markup.folded("Every network", markup.table(headings, rows)) + config(results)
