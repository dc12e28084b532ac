"""The sections of the report page that show images: examples, and the most confident mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from calib_jax.core.errors import DataError
from calib_jax.report import data, markup, selection
from calib_jax.report.markup import escape, paragraph
from calib_jax.report.tables import DASH

MAX_MISTAKES = 8
_MISTAKES = "The most confident mistakes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """An image with what each method made of it.

    Attributes:
      dataset: the data set's name, as in the results.
      index: its position there.
      image: pixels, RGB.
      label: name of its class; for a set of unknown classes that set's own label.
      predictions: method -> (class name, confidence in [0, 1]); an image without any is shown
        only among the mistakes.
    """

    dataset: str
    index: int
    image: UInt8[np.ndarray, "h w 3"]
    label: str
    predictions: Mapping[str, tuple[str, float]]

    def __post_init__(self) -> None:
        """Raises a DataError unless the image is uint8 RGB with at least one pixel."""
        shape, dtype = np.shape(self.image), getattr(self.image, "dtype", type(self.image))
        if len(shape) != 3 or shape[2] != 3 or not all(shape) or dtype != np.uint8:
            raise DataError(
                f"example {self.index} of {self.dataset}: got {dtype} of shape {shape}, expected "
                "uint8 of shape (h, w, 3). Give the pixels before normalisation."
            )


def section(results: Mapping[str, Any], images: Sequence[Example]) -> tuple[str, str]:
    """The title and the content of what shows single examples; of files there are no images."""
    wrong = mistakes(results, images)
    if not images:
        return _MISTAKES, wrong
    heading = f"<h3>{_MISTAKES}</h3>" * bool(wrong)
    return "What the models saw", examples(results, images) + heading + wrong


def examples(results: Mapping[str, Any], images: Sequence[Example]) -> str:
    """Example images by data set, in the order of the results; unknown sets come last."""
    shown = [example for example in images if example.predictions]
    if not shown:
        return ""
    unknown = data.out_of_distribution(results)
    known = [*data.evaluated(results), *unknown]
    order = [*known, *dict.fromkeys(e.dataset for e in shown if e.dataset not in known)]
    html = paragraph(
        "✓ right, ✗ wrong, ? an image of an unknown class, where no answer is right and low "
        "confidence is what one hopes for. The bar is the confidence in the answer."
    )
    hidden = set(data.methods(results)) - set(selection.drawn(results))
    for dataset in order:
        cards = [
            _card(example, hidden, outside=dataset in unknown)
            for example in shown
            if example.dataset == dataset
        ]
        if cards:
            grid = f'<div class="examples" tabindex="0">{"".join(cards)}</div>'
            html += f"<h3>{escape(dataset)}</h3>{grid}"
    return html


def _card(example: Example, hidden: Collection[str], *, outside: bool) -> str:
    """One image with its label and every method's answer, the hidden ones left out."""
    items = ""
    for method, (answer, confidence) in example.predictions.items():
        if method in hidden:
            continue
        right = answer == example.label
        mark, kind = ("?", "unknown") if outside else ("✓", "right") if right else ("✗", "wrong")
        value = data.number(confidence)
        width = 0.0 if value is None else min(max(100 * value, 0.0), 100.0)
        items += (
            f'<li class="{kind}"><span class="mark">{mark}</span>'
            f"<small>{escape(method)}</small><b>{escape(answer)}</b><span>{_percent(confidence)}</span>"
            f'<div class="bar"><i style="width:{width:.0f}%"></i></div></li>'
        )
    alt = f"{example.label}, image {example.index} of {example.dataset}"
    return (
        f'<div class="card example"><header>{markup.image(example.image, alt)}'
        f'<div><strong>{escape(example.label)}</strong> <span class="note">'
        f"#{example.index}</span></div></header><ul>{items}</ul></div>"
    )


def mistakes(results: Mapping[str, Any], images: Sequence[Example]) -> str:
    """The most confident mistakes of each drawn method's first seed, with the image where given."""
    pixels = {(example.dataset, example.index): example for example in images}
    clean, *shifted = data.evaluated(results)
    parts = ""
    for method in selection.drawn(results):
        found = ""
        together = shifted[0] if len(shifted) == 1 else "all shifts"
        for title, datasets in ((f"{clean} (ID)", [clean]), (together, shifted)):
            cards = [
                _mistake(record, dataset, pixels.get((dataset, record["index"])))
                for dataset, record in _most_confident(results, method, datasets)
            ]
            if cards:
                grid = f'<div class="examples" tabindex="0">{"".join(cards)}</div>'
                found += f"<h4>{escape(title)}</h4>{grid}"
        parts += markup.folded(method, found, opened=not parts)
    if not parts:
        return ""
    text = f"Wrong, and most sure of it{'; of the first seed' * data.has_seeds(results)}. "
    return paragraph(text + "Worth a look: a label may itself be wrong.") + parts


def _most_confident(
    results: Mapping[str, Any], method: str, datasets: Sequence[str]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Data set and record of a method's most confident mistakes there, the worst first."""
    runs = (run for run in results["runs"] if run["method"] == method)
    first: Mapping[str, Any] = next(runs, {})
    found = [
        (dataset, record)
        for dataset in datasets
        for record in data.lookup(first, "mistakes", dataset) or ()
    ]
    found.sort(key=lambda item: -(data.number(item[1]["confidence"]) or 0.0))
    return found[:MAX_MISTAKES]


def _mistake(record: Mapping[str, Any], dataset: str, example: Example | None) -> str:
    """One mistake: what it is, what was said, how surely, and where to find it."""
    where = f"{dataset} #{record['index']}"
    alt = f"{record['label']}, image {record['index']} of {dataset}"
    image = "" if example is None else markup.image(example.image, alt)
    return (
        f'<div class="card example mistake"><header>{image}<div>'
        f"<strong>{escape(record['label'])}</strong>"
        f'<span class="wrong">✗ {escape(record["prediction"])} {_percent(record["confidence"])}'
        f'</span><span class="note">{escape(where)}</span></div></header></div>'
    )


def _percent(confidence: object) -> str:
    value = data.number(confidence)
    return DASH if value is None else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
