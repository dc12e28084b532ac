"""The record of a training: one JSON object a line in `metrics.jsonl`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from calib_jax.core import text_files
from calib_jax.core.errors import DataError


class History:
    """Appends rows, and forgets those that a resumed training is about to write again."""

    def __init__(self, path: pathlib.Path):
        """Args: path: the file; it need not exist."""
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes one row at once, so that a crash loses none."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order written; a last line cut short by a crash is left out.

        Raises:
            DataError: The file cannot be read, or another line is no row of a history.
        """
        if not self.path.exists():
            return []
        rows = []
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}). Move it away."
            ) from None
        lines = content.removesuffix(b"\n").split(b"\n") if content else []
        for number, line in enumerate(lines):
            try:
                rows.append(_row(line))
            except ValueError as error:
                if number + 1 < len(lines) or content.endswith(b"\n"):
                    raise DataError(
                        f"{self.path}: line {number + 1} is damaged ({error}). Remove the line."
                    ) from None
        return rows

    def rewind(self, phase: str, seed: int, step: int) -> None:
        """Drops the rows of a phase and seed after `step`."""
        kept = [
            row
            for row in self.rows()
            if (row["phase"], row["seed"]) != (phase, seed) or row["step"] <= step
        ]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        partial = self.path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.path)


def _row(line: bytes) -> dict[str, Any]:
    """The row that a line holds; a ValueError where it holds none."""
    row = text_files.parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"got a {type(row).__name__}, expected an object")
    for key, kind in (("phase", str), ("seed", int), ("step", int)):
        if type(row.get(key)) is not kind:
            raise ValueError(f"{key}: got {row.get(key)!r}, expected {kind.__name__}")
    return row
