"""The report of an experiment: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from calib_jax.core.errors import DataError
from calib_jax.evaluation import (
    report_data,
    report_html,
    report_sections,
    report_style,
    report_training,
)
from calib_jax.evaluation.report_html import escape, paragraph
from calib_jax.evaluation.report_tables import DASH, markdown_table, terminal_table

__all__ = ["Example", "markdown_table", "terminal_table", "write_report"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """An image with what each method made of it.

    Attributes:
      dataset: the data set's name, as in the results.
      index: its position there.
      image: pixels, RGB.
      label: name of its class; for a set of unknown classes that set's own label.
      predictions: method -> (class name, confidence in [0, 1]).
    """

    dataset: str
    index: int
    image: UInt8[np.ndarray, "h w 3"]
    label: str
    predictions: Mapping[str, tuple[str, float]]

    def __post_init__(self) -> None:
        """Nothing; raises DataError unless the image is uint8 RGB with at least one pixel."""
        shape, dtype = np.shape(self.image), getattr(self.image, "dtype", type(self.image))
        if len(shape) != 3 or shape[2] != 3 or not all(shape) or dtype != np.uint8:
            raise DataError(
                f"example {self.index} of {self.dataset}: got {dtype} of shape {shape}, expected "
                "uint8 of shape (h, w, 3). Give the pixels before normalisation."
            )


def write_report(
    path: pathlib.Path,
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
) -> None:
    """Nothing; `path` then holds the page, the same bytes for the same input.

    Args:
      path: the HTML file to write; its folder must exist.
      results: the content of `results.json`, schema 1. Missing, null or NaN numbers are
        shown as a dash.
      history: the records of `metrics.jsonl`; may be empty.
      examples: images to show, grouped by data set on the page; may be empty.

    Raises:
      DataError: `results` is of another schema, holds no finished method, or mixes binnings.
    """
    report_data.check(results)
    path.write_text(_page(results, history, examples), encoding="utf-8", newline="\n")


def _page(
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
) -> str:
    """The whole page; sections without content are left out, of the navigation too."""
    parts = report_sections
    content = {
        "results": ("Results", parts.outcome(results) + parts.guide(results)),
        "shifts": ("Shift by shift", parts.shifts(results)),
        "reliability": ("Confidence against reality", parts.reliability(results)),
        "examples": ("What the models saw", _examples(results, examples)),
        "detection": ("Unknown classes", parts.detection(results)),
        "losses": (
            "Training",
            report_training.losses(results, history) + report_training.choices(results),
        ),
        "singular": ("Singular values", report_training.singular_values(results, history)),
        "details": ("Every number", parts.every_metric(results) + parts.config(results)),
    }
    shown = {anchor: part for anchor, part in content.items() if part[1]}
    links = "".join(f'<a href="#{a}">{escape(title)}</a>' for a, (title, _) in shown.items())
    body = "\n".join(report_html.section(a, title, html) for a, (title, html) in shown.items())
    title = escape(results.get("title") or results.get("name") or "Results")
    created = f"{results.get('name', '')} · {results.get('created', '')}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>\n{report_style.CSS}\n</style></head>\n<body>"
        f"<header>{parts.headline(results)}<nav>{links}</nav></header>\n<main>{body}</main>\n"
        f"<footer>{paragraph(created)}</footer></body></html>\n"
    )


def _examples(results: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """Example images by data set, in the order of the results; unknown sets come last."""
    if not examples:
        return ""
    unknown = report_data.out_of_distribution(results)
    known = [*report_data.evaluated(results), *unknown]
    order = [*known, *dict.fromkeys(e.dataset for e in examples if e.dataset not in known)]
    html = paragraph(
        "✓ right, ✗ wrong, ? an image of an unknown class, where no answer is right and low "
        "confidence is what one hopes for. The bar is the confidence in the answer."
    )
    for dataset in order:
        cards = [
            _card(example, outside=dataset in unknown)
            for example in examples
            if example.dataset == dataset
        ]
        if cards:
            grid = f'<div class="examples" tabindex="0">{"".join(cards)}</div>'
            html += f"<h3>{escape(dataset)}</h3>{grid}"
    return html


def _card(example: Example, *, outside: bool) -> str:
    """One image with its label and every method's answer."""
    items = ""
    for method, (answer, confidence) in example.predictions.items():
        right = answer == example.label
        mark, kind = ("?", "unknown") if outside else ("✓", "right") if right else ("✗", "wrong")
        value = report_data.number(confidence)
        percent = DASH if value is None else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
        width = 0.0 if value is None else min(max(100 * value, 0.0), 100.0)
        items += (
            f'<li class="{kind}"><span class="mark">{mark}</span>'
            f"<small>{escape(method)}</small><b>{escape(answer)}</b><span>{percent}</span>"
            f'<div class="bar"><i style="width:{width:.0f}%"></i></div></li>'
        )
    alt = f"{example.label}, image {example.index} of {example.dataset}"
    return (
        f'<div class="card example"><header>{report_html.image(example.image, alt)}'
        f'<div><strong>{escape(example.label)}</strong> <span class="note">'
        f"#{example.index}</span></div></header><ul>{items}</ul></div>"
    )
