"""The section of the report page that holds CaRot's bound against the models of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import Quantity
from calib_jax.report import figures, markup, selection
from calib_jax.report.figures import OTHER
from calib_jax.report.markup import paragraph

Results = Mapping[str, Any]

QUANTITIES = ("sigma_min", "inverse_sigma_min", "id_ece")
"""What the bound is made of."""

OUTCOMES = ("ood_error", "ood_ece")
"""What it bounds."""


def bound(results: Results) -> str:
    """OOD error and OOD ECE against what bounds them, a mark a model, with Pearson's r."""
    found = results["page"]["bound"]
    if found is None:
        return ""
    panes = "".join(
        markup.figure(
            _scatter(results, found, pair),
            _pearson(pair["pearson"]),
            title=f"{_title(pair['x'])} → {_title(pair['y'])}",
        )
        for pair in found["pairs"]
    )
    width, smallest, methods = found["width"], found["smallest"], found["methods"]
    texts = (
        "Theorem 3.1 of CaRot (arXiv 2311.01723) bounds the OOD error and the OOD calibration "
        "error by the ID calibration error plus d/σ_min, where σ_min is the smallest singular "
        "value of the correlation matrix of the d ID image features. In absolute terms the bound "
        f"is vacuous: σ_min ≤ 1, so d/σ_min ≥ d = {width}, and here at least "
        f"{smallest:,.0f}, while neither error can exceed 1. Only the ranking is of interest: do "
        "models with less of what bounds have less of what is bounded?",
        f"A mark is one seed of one of {len(methods)} trained methods, the line the "
        "least-squares fit. Brackets: 95 % bootstrap interval over the methods. Methods that "
        "resemble each other are no independent draws, and a correlation over methods is not an "
        "effect of σ_min.",
    )
    styles = selection.drawn(results)
    named = [(method, of) for method, of in styles.items() if method in methods]
    others = [("others", OTHER)] * any(method not in styles for method in methods)
    legend = markup.legend([*named, *others], line=False)
    return "".join(map(paragraph, texts)) + legend + f'<div class="figures">{panes}</div>'


def _scatter(results: Results, found: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    x, y = (catalogue.of(pair[side], catalogue.THEORY) for side in ("x", "y"))
    across = x.scale * np.asarray(found["values"][pair["x"]])
    up = y.scale * np.asarray(found["values"][pair["y"]])
    methods, styles = found["methods"], selection.drawn(results)
    with figures.figure_svg(f"{pair['y']} against {pair['x']}", 280) as (figure, out):
        axes = figure.add_subplot()
        if pair["line"]:
            ends = np.array([across.min(), across.max()])
            heights = y.scale * (pair["line"]["slope"] * ends / x.scale + pair["line"]["intercept"])
            axes.plot(ends, heights, color=figures.INK.color, linewidth=1)
        # The named ones above the others.
        for i in sorted(range(len(methods)), key=lambda i: methods[i] in styles):
            of = styles.get(methods[i], OTHER)
            fill = "none" if of.hatched else of.color
            axes.plot(across[i], up[i], "o", markersize=5, color=of.color, markerfacecolor=fill)
        axes.locator_params(nbins=5)
        axes.set(xlabel=_axis(pair["x"], x), ylabel=_axis(pair["y"], y))
        figures.finish(axes, grid="y")
    return out["svg"]


def _pearson(r: Mapping[str, float] | None) -> str:
    """`Pearson r = 0.71 [0.60, 0.80].`; what to say where one side does not vary."""
    if r is None:
        return "No correlation: every model has the same number."
    name = catalogue.of("pearson", catalogue.COMPARISON).title
    return f"{name} = {r['value']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}]."


def _title(key: str) -> str:
    return catalogue.of(key, catalogue.THEORY).title


def _axis(key: str, quantity: Quantity) -> str:
    """The title with what it is measured on or in."""
    unit = ", %" if quantity.scale == 100 else ""
    return quantity.title + (" of the ID features" if "sigma_min" in key else unit)
