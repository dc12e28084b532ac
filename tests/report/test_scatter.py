"""The scatter plot: axes, marks, names that stay readable."""

import re
import xml.etree.ElementTree as ET

import numpy as np

from calib_jax.report.data import Stat
from calib_jax.report.figures import style
from calib_jax.report.scatter import Point, scatter


def draw(points):
    svg = scatter("f & g", points, x="x <", y="y")
    assert svg == scatter("f & g", points, x="x <", y="y")
    return ET.fromstring(svg)


def texts(root):
    return {"".join(node.itertext()): node for node in root.iter("text")}


def test_marks_stand_where_the_axes_say():
    points = [
        Point("a<b", Stat(0.1, 0.02), Stat(0.5, 0.05), style(0)),
        Point("c", Stat(0.2), Stat(0.8), style(8)),
    ]
    root = draw(points)
    assert root.get("aria-label") == "f & g" and {"a<b", "c", "x <", "y"} <= set(texts(root))
    first, second = root.iter("circle")
    assert (first.get("fill"), second.get("fill")) == (style(0).color, "var(--page)")
    # The ticks 10 and 20 %, 50 and 80 % are the same places as the marks.
    ticks = texts(root)
    assert float(first.get("cx")) == float(ticks["10"].get("x"))
    assert float(second.get("cx")) == float(ticks["20"].get("x"))
    assert float(first.get("cy")) == float(ticks["50"].get("y")) - 4
    assert float(second.get("cy")) == float(ticks["80"].get("y")) - 4
    bars = next(p for p in root.iter("path") if p.get("opacity")).get("d")
    left, y, right, x, bottom, top = map(float, re.findall(r"[\d.]+", bars))
    assert (x, y) == (float(first.get("cx")), float(first.get("cy")))
    unit = (float(ticks["20"].get("x")) - float(ticks["10"].get("x"))) / 10
    np.testing.assert_allclose([right - x, x - left], 2 * unit, atol=0.11)
    assert top < y < bottom


def test_a_crowd_keeps_its_names_apart_and_inside():
    rng = np.random.default_rng(0)
    points = [
        Point(f"method_{i}", Stat(0.1 + 0.05 * x), Stat(0.7 + 0.05 * y), style(i))
        for i, (x, y) in enumerate(rng.random((20, 2)))
    ]
    found = texts(draw(points))
    places = [(float(found[p.name].get("x")), float(found[p.name].get("y"))) for p in points]
    for i, (x, y) in enumerate(places):
        assert 46 <= x <= 430 and 10 <= y <= 356
        for other_x, other_y in places[:i]:
            assert abs(x - other_x) > 48 or abs(y - other_y) > 11


def test_one_point_has_axes_and_missing_numbers_draw_nothing():
    missing = Point("none", Stat(None), Stat(0.5), style(1))
    root = draw([Point("one", Stat(0.1), Stat(0.5), style(0)), missing])
    assert len(list(root.iter("circle"))) == 1 and "none" not in texts(root)
    assert scatter("f", [missing], x="x", y="y") == ""
    assert scatter("f", [], x="x", y="y") == ""
