"""The pieces of a page: escaped tables, figures, legends, folded parts, inline images."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib.image
import numpy as np
from jaxtyping import UInt8

from calib_jax.report import figures, script, style

# Up to this side an image is kept pixel by pixel; a larger one becomes a JPEG thumbnail.
PIXEL_ART_SIDE = 64
THUMBNAIL_SIDE = 160


class Cell(NamedTuple):
    """A number in a table, marked if it is the best of its column.

    `sort` is what the column sorts by where the text does not begin with its number.
    """

    text: str
    best: bool = False
    sort: float | None = None


class Row(NamedTuple):
    """A table row: its name and cells; a row without cells is a heading for those below."""

    name: str
    cells: Sequence[Cell] = ()
    style: figures.Style | None = None


def page(title: str, *, header: str, main: str, footer: str = "") -> str:
    """A whole page that needs nothing but a browser: style and script are inside it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style.CSS}\n</style></head>\n<body>"
        f"<header>{header}</header>\n<main>{main}</main>\n<footer>{footer}</footer>\n"
        f"<script>\n{script.SORTING}\n</script></body></html>\n"
    )


def table(columns: Sequence[str], rows: Sequence[Row], *, wide: bool = False) -> str:
    """A table that scrolls sideways where it does not fit; `columns[0]` heads the names."""
    # An arrow to the better side stays with its word.
    unbroken = [re.sub(" ([↑↓])", "\N{NO-BREAK SPACE}\\1", column) for column in columns]
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in unbroken)
    body = "".join(_row(row, len(columns)) for row in rows)
    return (
        f'<div class="scroll{" wide" if wide else ""}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(svg: str, caption: str, *, title: str = "") -> str:
    """A figure with a heading above and its caption below."""
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f"<figure>{heading}{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def legend(entries: Iterable[tuple[str, figures.Style]], *, line: bool) -> str:
    """A legend that wraps on narrow screens."""
    items = "".join(
        f"<li>{figures.swatch(style, line=line)}{escape(name)}</li>" for name, style in entries
    )
    return f'<ul class="legend">{items}</ul>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A section of the page, or nothing if it has no content."""
    content = "".join(parts)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{content}</section>' * bool(content)


def paragraph(text: str, *, kind: str = "note") -> str:
    """A paragraph of escaped text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def folded(title: str, content: str, *, opened: bool = False) -> str:
    """Content that opens on a click, without a script; nothing if there is no content."""
    if not content:
        return ""
    return f"<details{' open' * opened}><summary>{escape(title)}</summary>{content}</details>"


def escape(text: object) -> str:
    """The text with every character that means something in HTML replaced."""
    return html.escape(str(text))


def image(pixels: UInt8[np.ndarray, "h w 3"], alt: str) -> str:
    """An `<img>` holding the picture itself: PNG if small, else a JPEG thumbnail."""
    side = max(pixels.shape[:2])
    small = side <= PIXEL_ART_SIDE
    if not small:
        pixels = _shrink(pixels, -(-side // THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    no_version: dict[str, Any] = {"Software": None}
    matplotlib.image.imsave(
        buffer,
        pixels,
        format="png" if small else "jpeg",
        metadata=no_version if small else None,
        pil_kwargs={"optimize": True} if small else {"quality": 82},
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    kind, mark = ("png", ' class="pixels"') if small else ("jpeg", "")
    return f'<img{mark} alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'


def _shrink(pixels: UInt8[np.ndarray, "h w 3"], factor: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Means over blocks of `factor` x `factor` pixels; an incomplete border is cut off."""
    height, width = (max(size // factor, 1) for size in pixels.shape[:2])
    rows, columns = min(factor, pixels.shape[0]), min(factor, pixels.shape[1])
    blocks = pixels[: height * rows, : width * columns].reshape(height, rows, width, columns, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def _row(row: Row, num_columns: int) -> str:
    """One table row."""
    mark = figures.swatch(row.style, line=False) if row.style else ""
    if not row.cells:
        return (
            f'<tr class="group"><th scope="rowgroup" colspan="{num_columns}">'
            f"<span>{escape(row.name)}</span></th></tr>"
        )
    cells = "".join(map(_cell, row.cells))
    return f'<tr><th scope="row">{mark}{escape(row.name)}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    """One number of a row."""
    mark = ' class="best"' if cell.best else ""
    value = "" if cell.sort is None else f' data-sort="{cell.sort:g}"'
    return f"<td{mark}{value}>{escape(cell.text)}</td>"
