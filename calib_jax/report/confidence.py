"""The sections of the report page on single answers: how sure, how often right, when to abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.report import data, figures, markup, selection
from calib_jax.report.data import Curve
from calib_jax.report.markup import paragraph
from calib_jax.report.selection import Panel

Results = Mapping[str, Any]


def reliability(results: Results) -> str:
    """A reliability diagram per drawn method: in-distribution, and all shifts pooled."""
    clean, *shifted = data.evaluated(results)
    panes = ""
    for method, of in selection.drawn(results).items():
        panels = [
            (title, data.reliability(results["page"]["reliability"][method][group]))
            for title, group in _groups(clean, shifted, "{} shifts pooled")
        ]
        if any(bins for _, bins in panels):
            svg = figures.reliability(f"Reliability of {method}", panels, of=of)
            panes += markup.figure(svg, "", title=method)
    if not panes:
        return ""
    pooled = "All seeds pooled. " * data.has_seeds(results)
    if len(shifted) > 1:
        pooled += (
            "The ECE of the pool is not the mean over shifts of the table: gaps of opposite sign "
            "cancel."
        )
    return (
        paragraph(
            "Solid bars: how often the answers of a confidence bin were right. Hatched: the gap to "
            "the confidence the model stated; above the solid bar it is too sure, inside it too "
            "modest. On the dashed line the two agree. Whiskers: the "
            f"{100 * data.level(results):g} % interval of the share that is right (Wilson), "
            "as if every example were its own draw. Below: the share of the examples in a bin. "
            + pooled
        )
        + f'<div class="figures">{panes}</div>'
    )


def risk_coverage(results: Results) -> str:
    """Risk-coverage curves of the drawn methods: in-distribution, and the mean over the shifts."""
    clean, *shifted = data.evaluated(results)
    methods = selection.drawn(results)
    panes = selection.panels(
        results,
        [
            Panel(
                f"Risk and coverage: {title}",
                "",
                "answered: the most confident, %",
                "wrong among them, %",
                {m: _risk(results, m, group) for m in methods},
            )
            for title, group in _groups(clean, shifted, "mean over {} shifts")
        ],
        log=False,
    )
    if not panes:
        return ""
    text = (
        "A model that may abstain answers only where it is most confident. Lower is better; where "
        "a curve does not fall to the left, the confidence says nothing on errors. The area under "
        "it is the AURC of the tables."
    )
    return "<h3>If it may abstain</h3>" + paragraph(text) + panes


def _risk(results: Results, method: str, group: str) -> Curve | None:
    """The recorded curve in percent."""
    curve = data.curve(results["page"]["risk_coverage"][method][group], scale=100.0)
    return None if curve is None else curve._replace(x=100 * curve.x)


def _groups(clean: str, shifted: Sequence[str], title: str) -> list[tuple[str, str]]:
    """Titles and groups: the ID split, and the shifts, if any, a single one by its name."""
    together = shifted[0] if len(shifted) == 1 else title.format(len(shifted))
    return [(f"{clean} (ID)", "id")] + [(together, "ood")] * bool(shifted)
