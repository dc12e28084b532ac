"""The sections of the report page on single answers: how sure, how often right, when to abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.evaluation import report_data, report_figures, report_html, report_selection
from calib_jax.evaluation.report_html import paragraph
from calib_jax.evaluation.report_selection import Panel

Results = Mapping[str, Any]


def reliability(results: Results) -> str:
    """A reliability diagram per drawn method: in-distribution, and all shifts pooled."""
    clean, *shifted = report_data.evaluated(results)
    figures = ""
    for method, of in report_selection.drawn(results).items():
        panels = [
            (title, report_data.pooled_reliability(results, method, datasets))
            for title, datasets in _groups(clean, shifted, "{} shifts pooled")
        ]
        if any(bins for _, bins in panels):
            svg = report_figures.reliability(f"Reliability of {method}", panels, of=of)
            figures += report_html.figure(svg, "", title=method)
    if not figures:
        return ""
    pooled = "All seeds pooled. " * report_data.has_seeds(results)
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
            f"{100 * report_data.level(results):g} % interval of the share that is right (Wilson), "
            "as if every example were its own draw. Below: the share of the examples in a bin. "
            + pooled
        )
        + f'<div class="figures">{figures}</div>'
    )


def risk_coverage(results: Results) -> str:
    """Risk-coverage curves of the drawn methods: in-distribution, and the mean over the shifts."""
    clean, *shifted = report_data.evaluated(results)
    methods = report_selection.drawn(results)
    figures = report_selection.panels(
        results,
        [
            Panel(
                f"Risk and coverage: {title}",
                "",
                "answered: the most confident, %",
                "wrong among them, %",
                {m: report_data.risk_coverage(results, m, datasets) for m in methods},
            )
            for title, datasets in _groups(clean, shifted, "mean over {} shifts")
        ],
        log=False,
    )
    if not figures:
        return ""
    text = (
        "A model that may abstain answers only where it is most confident. Lower is better; where "
        "a curve does not fall to the left, the confidence says nothing on errors. The area under "
        "it is the AURC of the tables."
    )
    return "<h3>If it may abstain</h3>" + paragraph(text) + figures


def _groups(clean: str, shifted: Sequence[str], title: str) -> list[tuple[str, Sequence[str]]]:
    """Titles and data sets: the ID one, and the shifts, if any, a single one by its name."""
    together = shifted[0] if len(shifted) == 1 else title.format(len(shifted))
    return [(f"{clean} (ID)", [clean])] + [(together, shifted)] * bool(shifted)
