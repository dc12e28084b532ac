"""The report of an experiment: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calib_jax.report import (
    bound,
    confidence,
    data,
    examples,
    export,
    intervals,
    markup,
    posthoc,
    shifts,
    training,
)
from calib_jax.report import sections as parts
from calib_jax.report.examples import Example
from calib_jax.report.markup import escape, paragraph
from calib_jax.report.tables import markdown_table, terminal_table

__all__ = ["Example", "markdown_table", "terminal_table", "write_report"]


Section = Callable[[Mapping[str, Any]], str]
"""Makes the HTML of a section of the content of `results.json`; empty: it is left out."""


def write_report(
    path: pathlib.Path,
    results: Mapping[str, Any],
    images: Sequence[Example] = (),
    sections: Mapping[str, Section] | None = None,
) -> None:
    """Writes the page, the same bytes for the same input.

    The results table lies beside it as `table.md`, `table.csv` and `table.tex`.

    Args:
      path: the HTML file to write; its folder must exist.
      results: the content of `results.json`, schema 1 (docs/results.md), with `page`. Missing, null
        or NaN numbers are shown as a dash; what an older version has not measured is left out.
      images: shown examples, grouped by data set on the page, and the images of the most
        confident mistakes; may be empty.
      sections: further ones by title, before the last; what they show they escape themselves
        (`report.markup`).

    Raises:
      DataError: `results` is of another schema, or holds no finished method or no `page`.
    """
    data.check_page(results)
    results = data.printable(results)
    page = _page(results, images, sections or {})
    path.write_text(page, encoding="utf-8", newline="\n")
    title = str(results.get("title") or results.get("name") or "")
    export.write_tables(path.parent, [(title, results)])


def _page(
    results: Mapping[str, Any],
    images: Sequence[Example],
    further: Mapping[str, Section],
) -> str:
    """The whole page; sections without content are left out, of the navigation too."""
    content = {
        "results": ("Results", parts.outcome(results) + parts.guide(results)),
        "shifts": (
            "Shift by shift",
            shifts.shifts(results) + shifts.weight_curves(results),
        ),
        "reliability": (
            "Confidence against reality",
            confidence.reliability(results) + confidence.risk_coverage(results),
        ),
        "posthoc": (
            "What calibration repairs",
            posthoc.calibrated(results) + posthoc.conformal(results),
        ),
        "examples": examples.section(results, images),
        "detection": ("Unknown classes", parts.detection(results)),
        "losses": (
            "Training",
            training.losses(results) + training.choices(results),
        ),
        "singular": ("Singular values", training.singular_values(results)),
        "bound": ("Does the theory order the models?", bound.bound(results)),
        **{f"own{i}": (title, make(results)) for i, (title, make) in enumerate(further.items())},
        "details": (
            "Every number",
            parts.every_metric(results) + intervals.intervals(results) + parts.config(results),
        ),
    }
    shown = {anchor: part for anchor, part in content.items() if part[1]}
    links = "".join(f'<a href="#{a}">{escape(title)}</a>' for a, (title, _) in shown.items())
    body = "\n".join(markup.section(a, title, html) for a, (title, html) in shown.items())
    created = f"{results.get('name', '')} · {results.get('created', '')}"
    return markup.page(
        str(results.get("title") or results.get("name") or "Results"),
        header=f"{parts.headline(results)}<nav>{links}</nav>",
        main=body,
        footer=paragraph(created),
    )
