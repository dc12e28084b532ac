"""Which methods the figures of a page draw, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from calib_jax.report import figures, markup
from calib_jax.report.data import Curve
from calib_jax.report.figures import Style, style

# One colour each; more methods than that cannot be told apart in one figure.
MAX_DRAWN = 8


def drawn(results: Mapping[str, Any]) -> dict[str, Style]:
    """The methods that the figures show, in the order of the table, and their styles."""
    return {method: style(i) for i, method in enumerate(results["page"]["drawn"])}


def remark(results: Mapping[str, Any]) -> str:
    """A sentence on which methods the figures leave out, or nothing."""
    return _remark(results, "Drawn", "the tables have all")


def table_remark(results: Mapping[str, Any]) -> str:
    """The same below a table of the drawn methods alone."""
    return _remark(results, "Shown", "results.json has all")


def _remark(results: Mapping[str, Any], verb: str, where: str) -> str:
    num_methods = len(results["table"])
    if num_methods <= MAX_DRAWN:
        return ""
    return (
        f"{verb}: {MAX_DRAWN} of {num_methods} methods, the first and the best of each column of "
        f"the results table; {where}."
    )


class Panel(NamedTuple):
    """A figure with a curve a method; methods without one are left out."""

    title: str
    caption: str
    x: str
    y: str
    curves: Mapping[str, Curve | None]


def panels(results: Mapping[str, Any], shown: Sequence[Panel], *, log: bool = True) -> str:
    """The panels that have a curve of a drawn method, below a legend; nothing without any."""
    styles, named, panes = drawn(results), set[str](), ""
    for title, caption, x, y, curves in shown:
        found = {m: curve for m in styles if (curve := curves.get(m)) is not None}
        named.update(found)
        if found:
            lines = [figures.Line(curve, styles[m]) for m, curve in found.items()]
            svg = figures.curves(title, lines, x=x, y=y, log=log)
            panes += markup.figure(svg, caption, title=title)
    if not panes:
        return ""
    legend = markup.legend([(m, of) for m, of in styles.items() if m in named], line=True)
    return f'{legend}<div class="figures">{panes}</div>'
