"""Figures of the report as inline SVG that takes its ink colour and font from the page.

Each is drawn at the width of a phone, so text stays readable there; the page puts two
beside each other where there is room. Output is byte for byte deterministic.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from calib_jax.report.data import Curve, Reliability, Stat

# Okabe and Ito's palette, black as grey and yellow darkened to show on both grounds; vermilion
# comes last because it also marks errors.
_PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#8C8C8C", "#B8A400", "#D55E00"),
)
_DASHES = ((), (5, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5))
# Stand-ins that become CSS variables, so one drawing serves light and dark.
_INK, _MUTED, _LINE = "#010101", "#020202", "#030303"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)"}
_SYMBOLS = {
    "o": "M1 6A5 5 0 0 1 11 6A5 5 0 0 1 1 6Z",
    "s": "M2 2H10V10H2Z",
    "^": "M6 1.5 10.5 10.5H1.5Z",
    "D": "M6 .5 11.5 6 6 11.5 .5 6Z",
}
_WIDTH = 440
_LABEL_LENGTH = 24
_TITLED = "titled:"


class Style(NamedTuple):
    """How a method or a term is drawn; dashes and hatching tell it apart without colour."""

    color: str
    dashes: tuple[float, ...]
    hatched: bool


class Line(NamedTuple):
    """A curve and its style; `bold` for the one that matters most."""

    curve: Curve
    style: Style
    bold: bool = False


INK = Style(_INK, (), False)
OTHER = Style("#8C8C8C", (), True)  # of what is there only for comparison: hollow


def titled(name: str) -> str:
    """The `gid` that gives what is drawn with it a name for a pointer."""
    return f"{_TITLED}{name}"


def style(index: int) -> Style:
    """The style of the `index`-th series: eight colours, then the same ones hatched."""
    again, color = divmod(index, len(_PALETTE))
    return Style(_PALETTE[color], _DASHES[(index + again) % len(_DASHES)], again % 2 == 1)


def swatch(of: Style, *, line: bool) -> str:
    """A small inline SVG for legends: a piece of line, or a filled box."""
    color = _VARIABLES.get(of.color, of.color)
    if line:
        dashes = " ".join(f"{2 * x:g}" for x in of.dashes) or "none"
        mark = f'<path d="M0 5H26" stroke="{color}" stroke-dasharray="{dashes}"/>'
        mark = mark.replace("/>", ' stroke-width="2.4" fill="none"/>')
    else:
        stripes = '<path d="M4 10 14 0M11 10 21 0" stroke="var(--page)" stroke-width="1.6"/>'
        mark = f'<rect width="26" height="10" rx="2" fill="{color}"/>' + stripes * of.hatched
    return f'<svg class="swatch" viewBox="0 0 26 10" aria-hidden="true">{mark}</svg>'


def symbol(marker: str, of: Style, *, edged: bool = False) -> str:
    """A small inline SVG for legends: one of matplotlib's markers `o`, `s`, `^` and `D`."""
    path = _SYMBOLS[marker]
    edge = f' stroke="{_VARIABLES[_INK]}" stroke-width="1.5"' * edged
    return (
        '<svg class="symbol" viewBox="0 0 12 12" aria-hidden="true">'
        f'<path d="{path}" fill="{of.color}"{edge}/></svg>'
    )


def bars(
    name: str,
    groups: Sequence[str],
    series: Sequence[Sequence[Stat]],
    *,
    axis: str,
    limit: float | None = None,
) -> str:
    """Horizontal bars in percent, one group a data set, one bar a method, whiskers of one std.

    Args:
      name: identifies the figure in the page; must be unique there.
      groups: names of the data sets, the in-distribution one first.
      series: for each method its fractions, one per data set; a missing one draws nothing.
      axis: what the horizontal axis shows.
      limit: its end in percent; None fits the data.
    """
    thickness = 0.82 / max(len(series), 1)
    height = 58 + len(groups) * max(22, 7 * len(series) + 7)
    with figure_svg(name, height) as (figure, out):
        axes = figure.add_subplot()
        for k, stats in enumerate(series):
            shown = [(g, s) for g, s in enumerate(stats) if s.mean is not None]
            axes.barh(
                [g + (k + 0.5) * thickness - 0.41 for g, _ in shown],
                [100 * (s.mean or 0.0) for _, s in shown],
                height=thickness * 0.9,
                xerr=[100 * (s.std or 0.0) for _, s in shown],
                error_kw={"ecolor": _INK, "elinewidth": 0.9},
                color=style(k).color,
                hatch="////" if style(k).hatched else None,
                edgecolor=_LINE,
                linewidth=0,
            )
        axes.set_yticks(range(len(groups)), [_short(group) for group in groups])
        axes.set_ylim(len(groups) - 0.45, -0.55)
        axes.set_xlim(0, limit)
        axes.set_xlabel(axis)
        axes.axhline(0.5, color=_MUTED, linewidth=0.8)
        finish(axes, grid="x")
        axes.spines["bottom"].set_visible(False)
    return out["svg"]


def reliability(name: str, panels: Sequence[tuple[str, Reliability | None]], *, of: Style) -> str:
    """Reliability diagrams side by side: accuracy by confidence with the gap, counts below."""
    with figure_svg(name, 300) as (figure, out):
        grid = figure.subplots(
            2, len(panels), sharex=True, squeeze=False, height_ratios=(3.4, 1), sharey="row"
        )
        for k, (title, bins) in enumerate(panels):
            top, bottom = grid[0, k], grid[1, k]
            top.set_title(_short(title), fontsize=12, color=_INK)
            top.plot([0, 100], [0, 100], color=_MUTED, linewidth=1, dashes=(4, 3))
            top.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))
            bottom.set_xlabel("confidence, %")
            bottom.yaxis.set_major_locator(MaxNLocator(2))
            finish(top, grid="y")
            finish(bottom, grid="y")
            if bins is None:
                top.text(50, 50, "no data", ha="center", color=_MUTED)
                continue
            _draw_bins(top, bottom, bins, of)
        # Apart, or the 100 of one panel touches the 0 of the next.
        figure.set_layout_engine("constrained", wspace=0.08)
        grid[0, 0].set_ylabel("accuracy, %")
        grid[1, 0].set_ylabel("share, %")
    return out["svg"]


def curves(
    name: str, lines: Sequence[Line], *, x: str, y: str, height: int = 260, log: bool = True
) -> str:
    """Curves with a band from the lowest to the highest seed; `log` allows it if they span 50x."""
    with figure_svg(name, height) as (figure, out):
        axes = figure.add_subplot()
        for curve, of, bold in lines:
            axes.plot(
                curve.x,
                curve.mean,
                color=of.color,
                linewidth=2.4 if bold else 1.6,
                linestyle=(0, of.dashes) if of.dashes else "-",
                marker="o" if len(curve.x) == 1 else None,
                markersize=4,
            )
            if np.any(curve.high > curve.low):
                axes.fill_between(
                    curve.x, curve.low, curve.high, color=of.color, alpha=0.16, linewidth=0
                )
        values = np.concatenate([np.concatenate([c.low, c.high]) for c, _, _ in lines])
        if log and values.min() > 0 and values.max() / values.min() > 50:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for side in (axes.xaxis, axes.yaxis):
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set(xlabel=x, ylabel=y)
        finish(axes, grid="y")
    return out["svg"]


def _draw_bins(top: Axes, bottom: Axes, bins: Reliability, of: Style) -> None:
    """Draws the filled bins, the gap to the stated confidence, and the share of examples."""
    filled = bins.count > 0
    left, width = 100 * bins.edges[:-1][filled], 100 * np.diff(bins.edges)[filled]
    accuracy, confidence = 100 * bins.accuracy[filled], 100 * bins.confidence[filled]
    top.bar(left, accuracy, width * 0.92, align="edge", color=of.color, alpha=0.85)
    top.bar(
        left,
        confidence - accuracy,
        width * 0.92,
        bottom=accuracy,
        align="edge",
        facecolor="none",
        edgecolor=_INK,
        hatch="////",
        linewidth=1,
    )
    low, high = 100 * bins.low[filled], 100 * bins.high[filled]
    top.vlines(left + width * 0.46, low, high, color=_INK, linewidth=1.1)
    # Above the bars: inside, a full bin of low confidence would cover it.
    ece = f"ECE {100 * bins.ece:.1f} %"
    top.set_title(f"{top.get_title()}\n{ece}", fontsize=12, color=_INK)
    bottom.bar(left, 100 * bins.share[filled], width * 0.92, align="edge", color=_MUTED)


@contextmanager
def figure_svg(name: str, height: int) -> Iterator[tuple[Figure, dict[str, str]]]:
    """A figure to draw in; afterwards `svg` holds the drawing."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.size": 12,
        "hatch.linewidth": 0.7,
        **{f"{part}.color": _MUTED for part in ("xtick", "ytick")},
        **{f"{part}.labelcolor": _INK for part in ("xtick", "ytick", "axes")},
        "axes.edgecolor": _MUTED,
    }
    out: dict[str, str] = {}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser's fonts have the glyphs that the measuring font may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure((_WIDTH / 72, height / 72), dpi=72, layout="constrained")
        yield figure, out
        buffer = io.StringIO()
        figure.patch.set_visible(False)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    out["svg"] = _inline(buffer.getvalue(), name)


def finish(axes: Axes, *, grid: str) -> None:
    """Takes away what is not data."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=False)
    (axes.xaxis if grid == "x" else axes.yaxis).grid(visible=True, color=_LINE, linewidth=0.8)
    axes.tick_params(which="both", length=0)


def _inline(svg: str, name: str) -> str:
    """The SVG element alone: no namespaces, style sheet, fonts or names that leak into a page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    box = re.search(r'viewBox="[^"]*"', svg)
    tag = f'<svg {box.group() if box else ""} role="img" aria-label="{html.escape(name)}">'
    # A function: the name may hold a backslash, which a template would read.
    svg = re.sub(r"^<svg[^>]*>", lambda _: tag, svg).replace("xlink:href", "href")
    # Single quotes around a name that has double ones.
    svg = re.sub(rf"<g id=([\"']){_TITLED}(.*?)\1>", r"<g><title>\2</title>", svg)
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m.group() if m[1] in used else "", svg)
    # Matplotlib writes the font as one property or as several, depending on its version.
    svg = re.sub(r"font: (?:\w+ )?([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(f": {stand_in}", f": {variable}")
    return re.sub(r"\s*\n\s*", "\n", svg)


def _short(text: str) -> str:
    """The text with its middle left out if long: severities and kinds stand at the ends."""
    if len(text) <= _LABEL_LENGTH:
        return text
    return f"{text[: _LABEL_LENGTH - 10]}…{text[-9:]}"
