"""Fragments: escaping, tables, embedded images."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest

from calib_jax.report import figures, markup
from calib_jax.report.markup import Cell, Row


def decode(tag):
    kind, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', tag).groups()
    return kind, matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format=kind)


def test_small_images_come_back_pixel_for_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 20, 3), dtype=np.uint8)
    tag = markup.image(pixels, 'a "<b>"')
    kind, image = decode(tag)
    assert kind == "png" and 'class="pixels"' in tag and "&quot;&lt;b&gt;&quot;" in tag
    np.testing.assert_array_equal((image[..., :3] * 255).round().astype(np.uint8), pixels)


@pytest.mark.parametrize(
    ("shape", "thumbnail"),
    [((96, 96, 3), (96, 96)), ((500, 375, 3), (125, 93)), ((1000, 2, 3), (142, 1))],
)
def test_large_images_become_thumbnails(shape, thumbnail):
    tag = markup.image(np.full(shape, 120, np.uint8), "x")
    kind, image = decode(tag)
    assert kind == "jpeg" and "pixels" not in tag
    assert image.shape[:2] == thumbnail
    assert abs(image.astype(int) - 120).max() <= 2


def test_table_marks_groups_and_best_cells():
    rows = [Row("<g>"), Row("m", [Cell("1", best=True), Cell("2")], figures.style(0))]
    html = markup.table(["method", "a", "b"], rows)
    assert '<th scope="rowgroup" colspan="3"><span>&lt;g&gt;</span></th>' in html
    assert '<td class="best">1</td><td>2</td>' in html
    assert 'class="swatch"' in html


def test_a_cell_sorts_by_its_own_number():
    html = markup.table(["run", "time ↓"], [Row("a", [Cell("2 min", sort=120.0), Cell("1")])])
    assert '<td data-sort="120">2 min</td><td>1</td>' in html
    assert '<th scope="col">time\N{NO-BREAK SPACE}↓</th>' in html


def test_folded_content():
    assert markup.folded("a", "x", opened=True).startswith("<details open><summary>a<")
    assert markup.folded("a", "x").startswith("<details><summary>")
    assert markup.folded("a", "") == ""


def test_a_page_has_one_inline_script_and_no_resource():
    html = markup.page("<t>", header="h", main="m")
    assert html.count("<script>") == html.count("</script>") == 1
    assert "<title>&lt;t&gt;</title>" in html and "http" not in html


def test_sections_without_content_vanish():
    assert markup.section("a", "A", "", "") == ""
    assert markup.section("a", "A&B", "x") == '<section id="a"><h2>A&amp;B</h2>x</section>'


def test_text_is_escaped_everywhere():
    bad = '<i x="1">&'
    for html in (
        markup.paragraph(bad),
        markup.folded(bad, "x"),
        markup.figure("", bad, title=bad),
        markup.legend([(bad, figures.INK)], line=True),
    ):
        assert "<i" not in html and "&lt;i x=&quot;1&quot;&gt;&amp;" in html
