"""The sections of the report page on training: choices, losses and singular values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib_jax.report import data, figures, markup, selection
from calib_jax.report.data import Curve
from calib_jax.report.figures import INK, Line, style
from calib_jax.report.markup import Cell, Row, paragraph
from calib_jax.report.selection import Panel

Results = Mapping[str, Any]

LAST = 20
"""The smallest singular values that have a figure of their own."""
_VALUE = "singular value"


def choices(results: Results) -> str:
    """What was chosen on the validation split: trials, penalties, alphas, members."""
    rows = [
        Row(name, [Cell("all"), Cell(f"trial {record['chosen']}, by {record['metric']}")])
        for name, record in (results.get("tuning") or {}).items()
    ]
    for run in results["runs"]:
        made = {**(run.get("chosen") or {}), **(run.get("combination") or {})}
        shown = [f"{key} {_short(made[key])}" for key in made if not isinstance(made[key], dict)]
        if shown:
            rows.append(Row(run["method"], [Cell(str(run["seed"])), Cell("; ".join(shown))]))
    if not rows:
        return ""
    # Stable: methods in the order of the table, tuning first.
    order = data.methods(results)
    rows.sort(key=lambda row: order.index(row.name))
    tuned_on, table = results.get("tuned_on"), markup.table(("method", "seed", "choice"), rows)
    text = paragraph(f"Chosen on {tuned_on}.") if tuned_on else ""
    return markup.folded("Every choice", text + table)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def losses(results: Results) -> str:
    """Loss curves of each training phase with the terms of the loss, undrawn methods left out."""
    training = results["page"]["training"]
    names = training["terms"]
    panes = ""
    hidden = set(data.methods(results)) - set(selection.drawn(results))
    for phase, curves in training["phases"].items():
        if phase in hidden:
            continue
        found = [
            (name, style(names.index(name)), data.curve(curve))
            for name, curve in curves["terms"].items()
        ]
        total = data.curve(curves.get("loss"))
        # A loss of one term with weight 1 is that term: drawn once.
        if len(found) != 1 or not _same(total, found[0][2]):
            found.append(("total", INK, total))
        shown = [(name, of, curve) for name, of, curve in found if curve is not None]
        if not shown:
            continue
        lines = [Line(curve, of, name == "total") for name, of, curve in shown]
        svg = figures.curves(f"Loss of {phase}", lines, x="step", y="loss")
        legend = markup.legend([(name, of) for name, of, _ in shown], line=True)
        panes += markup.figure(svg + legend, "", title=phase)
    if not panes:
        return ""
    text = "The total (bold) and its terms, each before its weight"
    text += "; mean over the seeds, the band spans them." * data.has_seeds(results)
    return paragraph(text.removesuffix(".") + ".") + f'<div class="figures">{panes}</div>'


def singular_values(results: Results) -> str:
    """The smallest singular value over training and the spectrum at its end, per method."""
    methods = selection.drawn(results)
    page = results["page"]
    batch, projection = (
        {m: data.curve(data.lookup(page["training"]["phases"], m, key)) for m in methods}
        for key in ("smallest_singular_value", "projection_smallest_singular_value")
    )
    whole, last = (
        {m: data.curve(page["spectrum"][m][part]) for m in methods} for part in ("whole", "last")
    )
    trained = any(run.get("num_steps") for run in results["runs"])
    panes = selection.panels(
        results,
        [
            Panel(
                "Image features of the validation split",
                "Smallest singular value of the correlation matrix of up to 512 validation images' "
                "features during training. Zero: a direction is unused.",
                "step",
                _VALUE,
                batch,
            ),
            Panel(
                "Image projection",
                "Smallest singular value of the image projection during training.",
                "step",
                _VALUE,
                projection,
            ),
            Panel(
                "Spectrum after training" if trained else "Spectrum",
                "All singular values of the standardised image features of the in-distribution "
                "test images, largest first.",
                "rank",
                _VALUE,
                whole,
            ),
            Panel(
                f"The last {LAST} of it",
                "Where the spectrum ends: σ_min is the last one.",
                "rank",
                _VALUE,
                last,
            ),
        ],
    )
    if not panes:
        return ""
    text = (
        "CaRot's theory bounds the error and the calibration error under shift together; the bound "
        "tightens as the smallest singular value of the ID features grows."
    )
    return paragraph(text) + panes


def _same(a: Curve | None, b: Curve | None) -> bool:
    """True where two curves would lie on each other."""
    if a is None or b is None or a.x.shape != b.x.shape:
        return False
    return bool(np.allclose(a.x, b.x) and np.allclose(a.mean, b.mean, rtol=1e-3))
