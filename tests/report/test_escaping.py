"""Names of any characters in the three table files: what a reader sees is the name."""

import csv
import html
import io
import re

import markdown_it
import numpy as np
import pytest

from calib_jax.core.printing import one_line
from calib_jax.report import escaping, export, tables

AWKWARD = [
    "<script>alert(1)</script>",
    "<!-- x -->",
    "a|b\\|c\\",
    "two\nlines\r\nand\rmore",
    "`code` *bold* _slanted_ ~~gone~~ __x__ a_b wise_ft_0.5",
    "[link](http://example.com)",
    "[a][b] ![x](y) [x] z",
    "&lt; &amp; &#60; A&B & C",
    "<http://example.com>",
    "# heading #",
    "1. x",
    "- x",
    "> x",
    "===",
    "$x$ \\(y\\) \\[z\\]",
    "=cmd|'/C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''-x",
    "  =1",
    "\uff1d1",
    'quote " and, comma',
    "[2pt] x",
    "*x",
    "\\input{x} \\\\ %{}$&#_^~",
    "a--b---c ``d'' ?`e !`f ,,g <<h>>",
    "^^M ^^41",
    "\x1b[31mred\x9b\x00\x7f",
    "\u202egnp.exe",
    "line\u2028separator\u2029and\x85next\x0bmore",
    "caf\u00e9 \u732b \U0001f600",
    "lone \udc80 surrogate",
]
_NUM_COLUMNS = len(tables.COLUMNS) + 1
ALPHABET = [*" \t\n\r\\`*_{}[]()#+-.!|<>&~$^=@%'\",;:/?09aZ", "&lt;", "](", "--", "\u202e", "\xe9"]


def drawn(count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        yield "".join(ALPHABET[i] for i in rng.integers(len(ALPHABET), size=rng.integers(1, 16)))


def names(count):
    return [*AWKWARD, *drawn(count)]


def results_of(methods):
    table = [
        {"method": method, **dict.fromkeys(tables.COLUMNS, {"mean": -0.5, "std": 0.25})}
        for method in methods
    ]
    return {
        "schema": 1,
        "table": table,
        "runs": [{"method": "x"}],
        "datasets": {"id": "x"},
        "seeds": [0, 1],
    }


def text_of(inline):
    """What is shown of an inline token, all of which must be plain text."""
    assert {child.type for child in inline.children} <= {"text", "text_special"}, inline.children
    return "".join(child.content for child in inline.children)


def inlines(text, where):
    """The contents of such elements, in order; of cells only those with names."""
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    found = [b for a, b in zip(tokens, tokens[1:], strict=False) if a.type == where]
    return [text_of(token) for token in found[:: _NUM_COLUMNS if where == "td_open" else 1]]


def check_markdown(methods):
    for start in range(0, len(methods), 100):
        part = methods[start : start + 100]
        cells = inlines(tables.markdown_text(results_of(part)), "td_open")
        assert cells == [one_line(name) for name in part]
    for name in methods:
        assert inlines(f"## {escaping.markdown(name)}\n", "heading_open") == [one_line(name)]
        if one_line(name):
            block = escaping.markdown_block(name)
            assert inlines(f"- {block}\n", "paragraph_open") == [one_line(name)]
            assert inlines(f"\n{block}\n", "paragraph_open") == [one_line(name)]


def field_as_meant(field):
    """Without the mark that keeps a text from being a formula."""
    guarded = re.match(r"'(?='*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]))", field)
    return field[1:] if guarded else field


def check_csv(methods):
    results = results_of(methods)
    rows = list(csv.DictReader(io.StringIO(export.csv_table(results), newline="")))
    assert [field_as_meant(row["method"]) for row in rows] == methods
    for row in rows:
        assert not re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]", row["method"])
        assert {float(row[f"{key}_mean"]) for key in tables.COLUMNS} == {-0.5}
    assert len({row["method"] for row in rows}) == len(set(methods))


_TEX = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    **{f"\\{mark}": mark for mark in "&%$#_{}"},
    **{f"{{{mark}}}": mark for mark in "[]*"},
    "{}": "",
}
_TEX_TOKEN = re.compile("|".join(map(re.escape, sorted(_TEX, key=len, reverse=True))))


def by_tex(text):
    """What TeX sets: every special character is part of a known command, no ligature is left."""
    rest = _TEX_TOKEN.sub("", text)
    assert not re.search(r"[\\&%$#_{}~^<>|\[\]*]", rest), text
    assert not re.search("--|``|''|,,|[?!]`", text), text
    return _TEX_TOKEN.sub(lambda found: _TEX[found[0]], text)


def check_latex(methods):
    body = export.latex_table(results_of(methods)).split("\\midrule\n")[1]
    rows = body.split("\n\\bottomrule")[0].split(" \\\\\n")
    assert len(rows) == len(methods)
    for row, name in zip(rows, methods, strict=True):
        first = row.split(" & ")[0]
        assert not re.match(r"\s*[\[*]", first)
        assert by_tex(first) == one_line(name)


CHECKS = [check_markdown, check_csv, check_latex]


@pytest.mark.parametrize("check", CHECKS)
def test_names_are_read_back(check):
    check(names(100))


@pytest.mark.many
@pytest.mark.parametrize("check", CHECKS)
def test_many_names_are_read_back(check):
    check(names(1000))


@pytest.mark.parametrize("name", AWKWARD)
def test_one_name_a_table(name):
    for check in CHECKS:
        check([name])


def test_common_names_stay_readable():
    for name in ("carot", "wise_carot_0.5", "FLYP (ours)", "A & B", "zero-shot", "lr=0.1"):
        assert escaping.markdown(name) == escaping.markdown_block(name) == name
        assert escaping.csv_field(name) == name
    assert escaping.latex("zero-shot") == "zero-shot"


def test_no_html_is_left():
    for name in names(100):
        assert "<" not in escaping.markdown(name)
        assert html.unescape(escaping.markdown("<b>")) == "<b>"


@pytest.mark.parametrize(
    ("value", "field"), [(None, ""), (-0.5, "-0.5"), (1 / 3, "0.3333333333333333")]
)
def test_numbers_are_no_formulas(value, field):
    assert escaping.csv_field(value) == field


def test_files_of_any_names(tmp_path):
    """Also of what no encoding has."""
    results = results_of(AWKWARD)
    export.write_tables(tmp_path, [("a\n<b>\udc80", results), ("=x", results)])
    assert (tmp_path / "table.md").read_text(encoding="utf-8").count("\n## ") == 1
    rows = (tmp_path / "table.csv").read_text(encoding="utf-8")
    assert "\n'=x," in rows and "\\udc80" in rows
    assert (tmp_path / "table.tex").read_text(encoding="utf-8").count("\\multicolumn") == 2
