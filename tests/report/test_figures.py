"""Figures are clean inline SVG, complete and deterministic."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from calib_jax.report import figures as figures
from calib_jax.report.data import Curve, Reliability, Stat


def make_curve(values):
    values = np.asarray(values, np.float64)
    return Curve(np.arange(len(values), dtype=np.float64), values, values * 0.9, values * 1.1)


def make_bins():
    nan = np.nan
    return Reliability(
        np.linspace(0, 1, 4),
        np.array([0.0, 10, 30]),
        np.array([0.0, 0.25, 0.75]),
        np.array([nan, 0.5, 0.9]),
        np.array([nan, 0.4, 0.95]),
        np.array([nan, 0.2, 0.8]),
        np.array([nan, 0.7, 0.99]),
        0.0625,
    )


def draw(kind):
    if kind == "bars":
        series = [[Stat(0.9, 0.01), Stat(None)], [Stat(0.5), Stat(0.4, 0.2)]]
        return figures.bars("f", ["clean", "a<b & $c$"], series, axis="accuracy, %")
    if kind == "reliability":
        panels = [("clean", make_bins()), ("shifts", None)]
        return figures.reliability("f", panels, of=figures.style(0))
    lines = [
        figures.Line(make_curve([1.0, 100.0]), figures.style(1)),
        figures.Line(make_curve([2.0]), figures.INK, bold=True),
    ]
    return figures.curves("f", lines, x="step", y="loss")


@pytest.mark.parametrize("kind", ["bars", "reliability", "curves"])
def test_svg_is_inline_and_deterministic(kind):
    svg = draw(kind)
    assert svg == draw(kind)
    root = ET.fromstring(svg)
    assert root.tag == "svg" and root.get("aria-label") == "f"
    assert not re.search(r"http|xlink|<style|<!--|DejaVu|#0[123]0[123]0[123]", svg)
    assert "width" not in root.attrib
    assert "var(--ink)" in svg and "var(--muted)" in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
    assert set(ids) == used and len(ids) == len(used)


@pytest.mark.parametrize("kind", ["bars", "reliability", "curves"])
def test_figures_of_one_page_share_no_ids(kind):
    ids = set(re.findall(r' id="([^"]*)"', draw(kind)))
    other = figures.reliability("g", [("clean", make_bins())], of=figures.style(8))
    assert ids.isdisjoint(re.findall(r' id="([^"]*)"', other))


def texts(svg):
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter("text")]


def test_text_is_text():
    assert "a<b & $c$" in texts(draw("bars"))
    assert "ECE 6.2 %" in texts(draw("reliability"))  # (10 * 0.1 + 30 * 0.05) / 40
    assert "no data" in texts(draw("reliability"))
    assert {"10", "100"} <= set(texts(draw("curves")))


def test_unusual_names_draw_without_a_warning():
    svg = figures.bars("f", ["数字", "🙂"], [[Stat(0.1), Stat(0.2)]], axis="x")
    assert "数字" in texts(svg)


@pytest.mark.parametrize("name", [r"a\d", r"\g<1>", r"a\1"])
def test_a_backslash_in_a_name_is_drawn_as_it_is(name):
    svg = figures.bars(name, [name], [[Stat(0.1)]], axis=name)
    assert ET.fromstring(svg).get("aria-label") == name and name in texts(svg)


def test_many_bars_keep_their_labels_apart():
    groups = [f"gaussian_noise_with_severity_{i}" for i in range(25)]
    series = [[Stat(0.5, 0.1)] * 25 for _ in range(10)]
    svg = figures.bars("f", groups, series, axis="x")
    nodes = {"".join(t.itertext()).strip(): t for t in ET.fromstring(svg).iter("text")}
    labels = [nodes[label] for label in nodes if label.startswith("gaussian")]
    assert len(labels) == 25
    heights = sorted(
        float(
            re.search(
                r"[\d.]+(?=\)|\"|$)",
                re.sub(r".*translate\([\d.-]+[ ,]+|\).*", "", t.get("transform", "")) or t.get("y"),
            )[0]
        )
        for t in labels
    )
    assert min(np.diff(heights)) > 14


def test_styles_differ_without_colour():
    styles = [figures.style(i) for i in range(12)]
    assert len(set(styles)) == 12
    assert not styles[7].hatched and styles[8].hatched
    assert styles[0].color == styles[8].color and styles[0].dashes != styles[8].dashes
    assert 'stroke="var(--ink)"' in figures.swatch(figures.INK, line=True)


def test_a_symbol_is_that_of_the_figures():
    for marker in "os^D":
        svg = figures.symbol(marker, figures.style(0))
        assert ET.fromstring(svg)[0].get("fill") == figures.style(0).color and "ink" not in svg
    assert 'stroke="var(--ink)"' in figures.symbol("o", figures.style(0), edged=True)


def test_what_is_titled_has_its_name_for_a_pointer():
    with figures.figure_svg("f", 100) as (figure, out):
        figure.add_subplot().plot([0, 1], [0, 1], gid=figures.titled('a <b> & "c"'))
    root = ET.fromstring(out["svg"])
    assert [node.text for node in root.iter("title")] == ['a <b> & "c"']
    assert "titled" not in out["svg"]


def test_global_settings_are_left_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw("bars")
    assert dict(matplotlib.rcParams) == before
