"""Rows of the caption table, by hand; every message."""

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data import captions

TEMPLATES = ("a photo of a {}.", "a {}")


def test_table_rows_are_class_major():
    table = captions.CaptionTable(("dog", "cat"), TEMPLATES)
    texts = table.texts()
    assert texts == ["a photo of a dog.", "a dog", "a photo of a cat.", "a cat"]
    for i, name in enumerate(table.class_names):
        for j, template in enumerate(TEMPLATES):
            assert texts[table.row(i, j)] == template.format(name)
    assert table.template_indices(("a {}", "a photo of a {}.")) == (1, 0)


def test_other_braces_are_text():
    table = captions.CaptionTable(("{dog}", "{}"), ("a {} in {braces} {",))
    assert table.texts() == ["a {dog} in {braces} {", "a {} in {braces} {"]


@pytest.mark.parametrize(("template", "places"), [("a dog", 0), ("a {0}", 0), ("a {} {}", 2)])
def test_a_template_needs_one_place_for_the_name(template, places):
    with pytest.raises(ConfigError, match=rf"got {places} places '{{}}' for the class name"):
        captions.CaptionTable(("dog",), ("a {}", template))


@pytest.mark.parametrize(("names", "templates"), [((), ("a {}",)), (("dog",), ())])
def test_an_empty_table(names, templates):
    message = rf"got {len(names)} class names and {len(templates)} templates, expected at least"
    with pytest.raises(ConfigError, match=message):
        captions.CaptionTable(names, templates)
