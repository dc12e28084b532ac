"""A scatter plot whose points carry their names, as inline SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from calib_jax.report.data import Stat
from calib_jax.report.figures import Style
from calib_jax.report.markup import escape

_WIDTH, _HEIGHT = 440.0, 400.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 10.0, 44.0
_FONT = 11.5
_LETTER = 6.2  # mean width of a letter of that size
_RADIUS = 5.0
_NEAR = 1.5 * _RADIUS  # a label further away than this gets a line to its point
_DISTANCES = (_NEAR, 16.0, 26.0, 38.0, 52.0, 68.0, 86.0)
_DIRECTIONS = 16


class Point(NamedTuple):
    """A point with error bars of one standard deviation; fractions in 0..1.

    One that is not `named` shows its name only to a pointer.
    """

    name: str
    x: Stat
    y: Stat
    style: Style
    named: bool = True


class _Box(NamedTuple):
    """A rectangle in the pixels of the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        """Pixels that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


class _Axis(NamedTuple):
    """Percent on `low..high` drawn on the pixels `start..end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, percent: float) -> float:
        """The pixel of a number of percent."""
        share = (percent - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers, four to nine of them."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(x for x in (1, 2, 5, 10) if x * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(i * step, 10) for i in range(first, last + 1)]


_FIELD = _Box(_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)


def scatter(name: str, points: Sequence[Point], *, x: str, y: str) -> str:
    """Points in percent with their names beside them, clear of each other where there is room.

    Args:
        name: Identifies the figure for a screen reader.
        points: One without both means is left out; empty where none remains.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
    """
    shown = [p for p in points if p.x.mean is not None and p.y.mean is not None]
    if not shown:
        return ""
    across = _axis([p.x for p in shown], _FIELD.left, _FIELD.right)
    up = _axis([p.y for p in shown], _FIELD.bottom, _FIELD.top)
    centres = [(across.at(_percent(p.x)), up.at(_percent(p.y))) for p in shown]
    marks = [_mark(point, across, up) for point in shown]
    named = [i for i, point in enumerate(shown) if point.named]
    labels = _place(centres, {i: _LETTER * len(shown[i].name) for i in named})
    # Names last: no mark covers them.
    marks += [_label(shown[i].name, centres[i], labels[i]) for i in named]
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(name)}" '
        f'font-size="{_FONT}">{_frame(across, up, x, y)}{"".join(marks)}</svg>'
    )


def _percent(value: Stat) -> float:
    return 100 * (value.mean or 0.0)


def _ends(value: Stat) -> tuple[float, float]:
    """Percent, one standard deviation to either side."""
    spread = 100 * (value.std or 0.0)
    return _percent(value) - spread, _percent(value) + spread


def _axis(values: Sequence[Stat], start: float, end: float) -> _Axis:
    """The axis that holds every error bar, with a margin for the marks."""
    low, high = min(_ends(v)[0] for v in values), max(_ends(v)[1] for v in values)
    margin = 0.06 * (high - low) or 1.0
    return _Axis(low - margin, high + margin, start, end)


def _frame(across: _Axis, up: _Axis, x: str, y: str) -> str:
    """Grid lines, numbers and titles of the axes."""
    parts = []
    for tick in across.ticks():
        at = across.at(tick)
        parts.append(
            f'<path d="M{at:.1f} {_FIELD.top}V{_FIELD.bottom}" stroke="var(--line)"/>'
            f'<text x="{at:.1f}" y="{_FIELD.bottom + 15}" text-anchor="middle">{tick:g}</text>'
        )
    for tick in up.ticks():
        at = up.at(tick)
        parts.append(
            f'<path d="M{_FIELD.left} {at:.1f}H{_FIELD.right}" stroke="var(--line)"/>'
            f'<text x="{_FIELD.left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    middle = (_FIELD.left + _FIELD.right) / 2, (_FIELD.top + _FIELD.bottom) / 2
    return (
        "".join(parts)
        + f'<text x="{middle[0]}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
        + f'<text transform="translate(12 {middle[1]}) rotate(-90)" text-anchor="middle">'
        + f"{escape(y)}</text>"
    )


def _mark(point: Point, across: _Axis, up: _Axis) -> str:
    """A disc, hollow for the second round of colours, on its error bars."""
    x, y = across.at(_percent(point.x)), up.at(_percent(point.y))
    left, right = (across.at(end) for end in _ends(point.x))
    bottom, top = (up.at(end) for end in _ends(point.y))
    title = "" if point.named else f"<title>{escape(point.name)}</title>"
    fill = "var(--page)" if point.style.hatched else point.style.color
    return (
        f'<path d="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {bottom:.1f}V{top:.1f}" '
        f'stroke="{point.style.color}" opacity=".7"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS - 1}" fill="{fill}" '
        f'stroke="{point.style.color}" stroke-width="2">{title}</circle>'
    )


def _label(name: str, centre: tuple[float, float], box: _Box) -> str:
    """The name with a halo, and a dotted line to its point if it stands away from it."""
    x, y = _end(centre, box)
    line = ""
    if math.dist(centre, (x, y)) > _NEAR + 1:
        line = f"M{centre[0]:.1f} {centre[1]:.1f}L{x:.1f} {y:.1f}"
        line = f'<path d="{line}" stroke="var(--muted)" stroke-dasharray="2 2"/>'
    return (
        f'{line}<text x="{(box.left + box.right) / 2:.1f}" y="{box.bottom - 3:.1f}" '
        'text-anchor="middle" stroke="var(--page)" stroke-width="3" paint-order="stroke">'
        f"{escape(name)}</text>"
    )


def _end(centre: tuple[float, float], box: _Box) -> tuple[float, float]:
    """The place on a label that is nearest to its point."""
    x, y = centre
    return min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)


def _place(centres: Sequence[tuple[float, float]], widths: Mapping[int, float]) -> dict[int, _Box]:
    """A box for each label: the nearest free place around its point, or the least covered one.

    `widths` has those of the points that get one. Points with close neighbours choose first:
    they have the least choice.
    """
    discs = [_Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in centres]
    crowd = [sum(math.dist(a, b) < _DISTANCES[-1] for b in centres) for a in centres]
    placed: dict[int, _Box] = {}
    lines: list[_Box] = []
    for i in sorted(widths, key=lambda i: (-crowd[i], centres[i])):
        others = [*discs[:i], *discs[i + 1 :], *placed.values()]
        placed[i] = _cheapest(
            _candidates(centres[i], widths[i]), centres[i], others, own=[discs[i], *lines]
        )
        lines += _line(centres[i], placed[i])
    return placed


def _line(centre: tuple[float, float], box: _Box) -> list[_Box]:
    """Small squares along the line from a point to its label, its ends left out."""
    (x0, y0), (x1, y1) = centre, _end(centre, box)
    shares = [k / 8 for k in range(1, 8)] if math.dist((x0, y0), (x1, y1)) > _NEAR + 1 else []
    dots = [(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in shares]
    return [_Box(x - 1.5, y - 1.5, x + 1.5, y + 1.5) for x, y in dots]


def _cheapest(
    candidates: Sequence[_Box],
    centre: tuple[float, float],
    others: Sequence[_Box],
    *,
    own: Sequence[_Box],
) -> _Box:
    """The first candidate that covers nothing, or the one that covers least."""
    best, least = candidates[0], math.inf
    for box in candidates:
        cost = _cost(box, centre, others, own=own)
        if cost < least:
            best, least = box, cost
        if least == 0:
            break
    return best


def _cost(
    box: _Box, centre: tuple[float, float], others: Sequence[_Box], *, own: Sequence[_Box]
) -> float:
    """Pixels of the label that are taken or outside the field, and of its line under others."""
    area = (box.right - box.left) * (box.bottom - box.top)
    outside = area - box.overlap(_FIELD)
    covered = sum(map(box.overlap, [*others, *own]))
    crossed = sum(dot.overlap(other) for dot in _line(centre, box) for other in others)
    # Rounded: what covers nothing must not lose to another by the last digit.
    return round(outside + covered + crossed, 3)


def _candidates(centre: tuple[float, float], width: float) -> list[_Box]:
    """Boxes around a point, the nearest first, beginning to its right."""
    boxes, height = [], _FONT + 2
    for distance in _DISTANCES:
        for k in range(_DIRECTIONS):
            angle = 2 * math.pi * k / _DIRECTIONS
            cos, sin = math.cos(angle), math.sin(angle)
            x = centre[0] + cos * (distance + width / 2)
            y = centre[1] - sin * (distance + height / 2)
            boxes.append(_Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return boxes
