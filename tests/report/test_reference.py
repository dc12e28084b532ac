"""The tables of docs/results.md are those of the catalogue."""

import pathlib
import re

import pytest

from calib_jax.core.errors import DataError
from calib_jax.report import reference

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "results.md"


def test_the_document_is_what_is_generated():
    text = DOCUMENT.read_text(encoding="utf-8")
    named = re.findall(r"<!-- numbers: (\w+) -->", text)
    assert sorted(named) == sorted(reference.GROUPS)
    again = "path.write_text(reference.filled(path.read_text()))"
    assert reference.filled(text) == text, f"the catalogue has changed: {again}"


def test_a_block_is_filled_and_the_rest_is_left():
    text = "a\n<!-- numbers: conformal -->\nold\n<!-- end of numbers -->\nb\n"
    filled = reference.filled(text)
    assert filled.startswith("a\n<!-- numbers: conformal -->\n| key |") and filled.endswith("\nb\n")
    assert "\nold\n" not in filled and "| `mean_size` | size |" in filled
    with pytest.raises(DataError, match="^numbers: got 'confromal', expected one of metrics"):
        reference.filled(text.replace("conformal", "confromal"))
