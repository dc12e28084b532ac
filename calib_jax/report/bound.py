"""The section of the report page that holds CaRot's bound against the models of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from calib_jax.metrics.correlation import correlation
from calib_jax.report import data, figures, markup, selection
from calib_jax.report.figures import OTHER
from calib_jax.report.markup import paragraph

Results = Mapping[str, Any]

MIN_MODELS = 5
_QUANTITIES = {
    "sigma_min": "σ_min of the ID features",
    "inverse_sigma_min": "1/σ_min of the ID features",
    "id_ece": "ID ECE, %",
}
_OUTCOMES = {"ood_error": "OOD error, %", "ood_ece": "OOD ECE, %"}


class Models(NamedTuple):
    """What the bound is made of and what it bounds, of trained models over common seeds."""

    methods: list[str]
    values: dict[str, Float[np.ndarray, "methods seeds"]]
    width: int


def records(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each run what `bound` reads, the width of the features in place of their spectrum."""
    return [
        {
            **{key: run.get(key) for key in ("method", "seed", "num_steps", "summary")},
            "spectrum": {
                "smallest_singular_value": data.lookup(run, "spectrum", "smallest_singular_value"),
                "width": _width(run),
            },
        }
        for run in runs
    ]


def models(results: Results) -> Models | None:
    """The trained methods (of at least one step) that have every number at the same seeds.

    None with fewer than `MIN_MODELS` of them. Errors and ECEs in percent; a method whose features
    have a direction without variance, 1/σ_min = infinity, is left out.
    """
    found: dict[str, dict[object, dict[str, float]]] = {}
    widths = set()
    for run in results["runs"]:
        numbers = _numbers(run)
        if numbers is not None:
            found.setdefault(run["method"], {})[run.get("seed")] = numbers
            widths.add(_width(run))
    seeds = max(found.values(), key=len, default={})
    whole = [method for method, of in found.items() if set(of) == set(seeds)]
    if len(whole) < MIN_MODELS:
        return None
    values = {
        key: np.asarray([[found[m][seed][key] for seed in seeds] for m in whole])
        for key in (*_QUANTITIES, *_OUTCOMES)
    }
    return Models(whole, values, max(widths))


def bound(results: Results) -> str:
    """OOD error and OOD ECE against what bounds them, a mark a model, with Pearson's r."""
    found = models(results)
    if found is None:
        return ""
    panes = "".join(
        markup.figure(
            _scatter(results, found, x, y), _pearson(found, x, y), title=f"{_name(x)} → {_name(y)}"
        )
        for x in _QUANTITIES
        for y in _OUTCOMES
    )
    smallest = found.width * found.values["inverse_sigma_min"].min()
    texts = (
        "Theorem 3.1 of CaRot (arXiv 2311.01723) bounds the OOD error and the OOD calibration "
        "error by the ID calibration error plus d/σ_min, where σ_min is the smallest singular "
        "value of the correlation matrix of the d ID image features. In absolute terms the bound "
        f"is vacuous: σ_min ≤ 1, so d/σ_min ≥ d = {found.width}, and here at least "
        f"{smallest:,.0f}, while neither error can exceed 1. Only the ranking is of interest: do "
        "models with less of what bounds have less of what is bounded?",
        f"A mark is one seed of one of {len(found.methods)} trained methods, the line the "
        "least-squares fit. Brackets: 95 % bootstrap interval over the methods. Methods that "
        "resemble each other are no independent draws, and a correlation over methods is not an "
        "effect of σ_min.",
    )
    styles = selection.drawn(results)
    named = [(method, of) for method, of in styles.items() if method in found.methods]
    others = [("others", OTHER)] * any(method not in styles for method in found.methods)
    legend = markup.legend([*named, *others], line=False)
    return "".join(map(paragraph, texts)) + legend + f'<div class="figures">{panes}</div>'


def _numbers(run: Mapping[str, Any]) -> dict[str, float] | None:
    """A model's quantities and outcomes; None unless it was trained and has all of them."""
    sigma = data.number(data.lookup(run, "spectrum", "smallest_singular_value"))
    accuracy, ece, id_ece = (
        data.number(data.lookup(run, "summary", key))
        for key in ("ood_accuracy", "ood_ece", "id_ece")
    )
    trained = run.get("num_steps") and _width(run)
    if not trained or not sigma or accuracy is None or ece is None or id_ece is None:
        return None
    return {
        "sigma_min": sigma,
        "inverse_sigma_min": 1 / sigma,
        "id_ece": 100 * id_ece,
        "ood_error": 100 * (1 - accuracy),
        "ood_ece": 100 * ece,
    }


def _width(run: Mapping[str, Any]) -> int:
    """Features that the spectrum is of; 0 if it was not kept."""
    values = data.lookup(run, "spectrum", "singular_values") or ()
    return data.lookup(run, "spectrum", "width") or len(values)


def _scatter(results: Results, found: Models, x: str, y: str) -> str:
    across, up = found.values[x], found.values[y]
    styles = selection.drawn(results)
    with figures.figure_svg(f"{y} against {x}", 280) as (figure, out):
        axes = figure.add_subplot()
        if np.ptp(across) > 0:
            ends = np.array([across.min(), across.max()])
            slope, intercept = np.polyfit(across.ravel(), up.ravel(), 1)
            axes.plot(ends, slope * ends + intercept, color=figures.INK.color, linewidth=1)
        # The named ones above the others.
        for i in sorted(range(len(found.methods)), key=lambda i: found.methods[i] in styles):
            of = styles.get(found.methods[i], OTHER)
            fill = "none" if of.hatched else of.color
            axes.plot(across[i], up[i], "o", markersize=5, color=of.color, markerfacecolor=fill)
        axes.locator_params(nbins=5)
        axes.set(xlabel=_QUANTITIES[x], ylabel=_OUTCOMES[y])
        figures.finish(axes, grid="y")
    return out["svg"]


def _pearson(found: Models, x: str, y: str) -> str:
    """`Pearson r = 0.71 [0.60, 0.80].`; what to say where one side does not vary."""
    pair: Sequence[Float[np.ndarray, "methods seeds"]] = (found.values[x], found.values[y])
    if not all(np.ptp(values) > 0 for values in pair):
        return "No correlation: every model has the same number."
    r = correlation(*pair, kind="pearson")
    return f"Pearson r = {r.value:+.2f} [{r.low:+.2f}, {r.high:+.2f}]."


def _name(key: str) -> str:
    return {**_QUANTITIES, **_OUTCOMES}[key].removesuffix(", %").removesuffix(" of the ID features")
