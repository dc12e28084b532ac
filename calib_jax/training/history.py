"""The record of a training: one JSON object a line in `metrics.jsonl`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

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
            DataError: Another line is damaged.
        """
        if not self.path.exists():
            return []
        rows = []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number + 1 < len(lines):
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
