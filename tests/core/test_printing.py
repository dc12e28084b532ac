"""What a command says, on terminals of any encoding and to readers that go away."""

import io
import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import pytest
import rich.table

from calib_jax.core.printing import one_line, say

FULL = pathlib.Path("/dev/full")


class Stream(io.TextIOWrapper):
    """A stream that is a terminal, or none."""

    def __init__(self, encoding, *, is_terminal=False):
        super().__init__(io.BytesIO(), encoding=encoding)
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal

    def content(self):
        return self.buffer.getvalue().decode(self.encoding)


def said(what, encoding="utf-8", **options):
    stream = Stream(encoding, **options)
    say(what, file=stream)
    return stream.content()


def table(*cells):
    made = rich.table.Table(title="ECE \N{DOWNWARDS ARROW}")
    made.add_column("method")
    for cell in cells:
        made.add_row(rich.text.Text(cell))
    return made


@pytest.mark.parametrize("text", ["runs/[seed0]/[/red]", "a" * 200, "[bold]x", "one\ntwo", ""])
def test_a_text_is_printed_as_it_is(text):
    assert said(text) == f"{text}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\x07", "a\\x0db\\x07"),
        ("a\x9bb", "a\\x9bb"),
        ("\u202egnp.exe\u2069", "\\u202egnp.exe\\u2069"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\udcff\ud800", "\\udcff\\ud800"),
    ],
)
def test_control_characters_show(text, expected):
    assert said(text) == f"{expected}\n"


def test_one_line():
    assert one_line(" a\n\tb \r\n c\x1b\u2028") == "a b c\\x1b"
    assert one_line("a name") == "a name"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "utf-8"])
def test_every_encoding_gets_the_table(encoding):
    found = said(
        table("carot \N{GREEK SMALL LETTER ALPHA} \N{CJK UNIFIED IDEOGRAPH-732B}"), encoding
    )
    assert "carot" in found and "ECE" in found
    arrow = "\N{DOWNWARDS ARROW}" if encoding == "utf-8" else "ECE v"
    assert arrow in found


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["ascii", "cp1252", "utf-8"]),
)
def test_any_text_in_any_encoding(text, encoding):
    """On as many lines as the text has."""
    found = said(text, encoding)
    assert found.count("\n") == text.count("\n") + 1
    if text.isascii() and text.isprintable():
        assert found == f"{text}\n"


def test_off_a_terminal_no_cell_is_folded(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    name = "method/" * 20
    assert name in said(table(name))
    assert name not in said(table(name), is_terminal=True)


def test_without_a_standard_output_it_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    say("a text")


SCRIPT = """
from calib_jax.core.printing import say
for number in range(20000):
    say(f"line {number}")
"""


def run_script(**options):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=subprocess.PIPE, text=True, **options
    )


def test_a_reader_that_goes_away_ends_nothing():
    with run_script(stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_device_is_said_once():
    with FULL.open("w") as full, run_script(stdout=full) as process:
        expected = "calib_jax: the output cannot be written (No space left on device).\n"
        assert process.stderr.read() == expected
        assert process.wait() == 0
