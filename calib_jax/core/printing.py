"""What a command says, on any terminal: names and paths as they are, and no markup."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from typing import Any

import rich.console
import rich.table
from tqdm import tqdm

_PLAIN = str.maketrans(
    {
        **{"↑": "^", "↓": "v", "±": "+-", "–": "-", "—": "-", "…": "...", "×": "x"},
        **{"─": "-", "━": "-", "\N{NO-BREAK SPACE}": " "},
    }
)
# Also what turns the writing's direction, ends a line in some readers, or is no character.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def say(what: str | rich.table.Table, *, file: Any = None) -> None:
    """Prints a text or a table, and a line's end.

    A text is not wrapped. Its control characters show as escapes, and so does what the stream's
    encoding lacks, but for signs that have a plain form. A reader that has gone, or a full device,
    ends nothing: results are in files.

    Args:
        what: To be printed; the cells of a table are `escaped` by who makes it.
        file: A text stream; standard output.
    """
    stream = sys.stdout if file is None else file
    if stream is None:  # a process without one, as `print` has it
        return
    text = escaped(what) if isinstance(what, str) else _drawn(what, stream)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        text = plain.encode(encoding, "backslashreplace").decode(encoding)
    try:
        # On a terminal the bars step aside.
        with tqdm.external_write_mode(stream) if stream.isatty() else contextlib.nullcontext():
            stream.write(f"{text}\n")
            stream.flush()
    except OSError as error:
        _give_up(stream, error)


def escaped(text: str) -> str:
    r"""The text with its control characters, but for tabs and ends of lines, as `\x1b`."""
    return _CONTROL.sub(lambda found: _code(ord(found[0])), text)


def one_line(text: str) -> str:
    """As `escaped`, with one blank for each tab, end of line and run of blanks."""
    return escaped(" ".join(text.split()))


def _code(number: int) -> str:
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _drawn(table: rich.table.Table, stream: Any) -> str:
    """The table as text: in a terminal of its width and with bold cells, else as wide as it is."""
    is_terminal = stream.isatty()
    buffer = io.StringIO()
    console = rich.console.Console(file=buffer, force_terminal=is_terminal, highlight=False)
    if not is_terminal:
        console.width = max(
            80, console.measure(table, options=console.options.update(width=10_000)).maximum
        )
    console.print(table)
    return buffer.getvalue().rstrip("\n")


def _give_up(stream: Any, error: OSError) -> None:
    """Lets whatever the stream still gets go nowhere, so that the exit does not fail either."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # no file of the system
        return
    if not isinstance(error, BrokenPipeError) and stream is not sys.stderr:
        say(f"calib_jax: the output cannot be written ({error.strerror}).", file=sys.stderr)
