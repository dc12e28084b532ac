"""The report of an experiment: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.evaluation import (
    report_bound,
    report_confidence,
    report_data,
    report_examples,
    report_export,
    report_html,
    report_intervals,
    report_posthoc,
    report_sections,
    report_shifts,
    report_training,
)
from calib_jax.evaluation.report_examples import Example
from calib_jax.evaluation.report_html import escape, paragraph
from calib_jax.evaluation.report_tables import markdown_table, terminal_table

__all__ = ["Example", "markdown_table", "terminal_table", "write_report"]


def write_report(
    path: pathlib.Path,
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
) -> None:
    """Nothing; `path` then holds the page, the same bytes for the same input.

    The results table lies beside it as `table.md`, `table.csv` and `table.tex`.

    Args:
      path: the HTML file to write; its folder must exist.
      results: the content of `results.json`, schema 1 (docs/results.md). Missing, null or NaN
        numbers are shown as a dash; what an older version has not measured is left out.
      history: the records of `metrics.jsonl`; may be empty.
      examples: images to show, grouped by data set on the page, and the images of the most
        confident mistakes; may be empty.

    Raises:
      DataError: `results` is of another schema, holds no finished method, or mixes binnings.
    """
    report_data.check(results)
    path.write_text(_page(results, history, examples), encoding="utf-8", newline="\n")
    title = str(results.get("title") or results.get("name") or "")
    report_export.write_tables(path.parent, [(title, results)])


def _page(
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
) -> str:
    """The whole page; sections without content are left out, of the navigation too."""
    parts = report_sections
    content = {
        "results": ("Results", parts.outcome(results) + parts.guide(results)),
        "shifts": (
            "Shift by shift",
            report_shifts.shifts(results) + report_shifts.weight_curves(results),
        ),
        "reliability": (
            "Confidence against reality",
            report_confidence.reliability(results) + report_confidence.risk_coverage(results),
        ),
        "posthoc": (
            "What calibration repairs",
            report_posthoc.calibrated(results) + report_posthoc.conformal(results),
        ),
        "examples": report_examples.section(results, examples),
        "detection": ("Unknown classes", parts.detection(results)),
        "losses": (
            "Training",
            report_training.losses(results, history) + report_training.choices(results),
        ),
        "singular": ("Singular values", report_training.singular_values(results, history)),
        "bound": ("Does the theory order the models?", report_bound.bound(results)),
        "details": (
            "Every number",
            parts.every_metric(results)
            + report_intervals.intervals(results)
            + parts.config(results),
        ),
    }
    shown = {anchor: part for anchor, part in content.items() if part[1]}
    links = "".join(f'<a href="#{a}">{escape(title)}</a>' for a, (title, _) in shown.items())
    body = "\n".join(report_html.section(a, title, html) for a, (title, html) in shown.items())
    created = f"{results.get('name', '')} · {results.get('created', '')}"
    return report_html.page(
        str(results.get("title") or results.get("name") or "Results"),
        header=f"{parts.headline(results)}<nav>{links}</nav>",
        main=body,
        footer=paragraph(created),
    )
