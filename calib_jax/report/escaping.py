"""What users wrote, in Markdown, CSV and LaTeX: it reads as it is and does nothing."""

from __future__ import annotations

import re

from calib_jax.core.printing import one_line

# Backslashes stand before these. An `_` between letters opens no emphasis, a `]` ends a link only
# where it goes on.
_MARKDOWN = re.compile(r"[\\`*#~$|]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_BLOCK = re.compile(r"^(\d*)([-+=.)\[:])")
_FORMULA = re.compile(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a row these would be an argument of it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "–": "--",
}
_LIGATURE = re.compile("(?<=[-`',!?])(?=[-`',])")


def markdown(text: str) -> str:
    """The text on one line, for a cell, a heading or the middle of a paragraph.

    No HTML, no emphasis, no further cell and no link but that of a bare address comes of it, in
    CommonMark and GitHub's.
    """
    marked = _MARKDOWN.sub(r"\\\g<0>", _ENTITY.sub("&amp;", one_line(text)))
    return marked.replace("<", "&lt;").replace(">", "&gt;")


def markdown_block(text: str) -> str:
    """As `markdown`, at the beginning of a paragraph or of a list's point: no list comes of it."""
    return _BLOCK.sub(r"\1\\\2", markdown(text))


def csv_field(value: str | float | None) -> str:
    """A field of a CSV file: a number to its last digit, nothing for None, or a text.

    A text that a spreadsheet would take for a formula has a `'` before it. So has one that begins
    with such marks and a formula: what was written can be told from what is read.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(float(value))
    text = f"'{value}" if _FORMULA.match(value) else value
    # The csv module of Python 3.11 leaves a carriage return unquoted.
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if re.search('[,"\r\n]', text) else text


def latex(text: str) -> str:
    """The text on one line with every character that means something in LaTeX replaced."""
    return "".join(_LATEX.get(mark, mark) for mark in _LIGATURE.sub("\0", one_line(text))).replace(
        "\0", "{}"
    )
