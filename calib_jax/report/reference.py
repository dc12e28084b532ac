"""The tables of numbers in docs/results.md, made from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping

from calib_jax.core.errors import DataError
from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import Quantity

GROUPS: dict[str, Mapping[str, Quantity]] = {
    "metrics": {**catalogue.BUILTIN, **catalogue.SHIFT},
    "summary": catalogue.SUMMARY,
    "detection": catalogue.DETECTION,
    "conformal": catalogue.CONFORMAL,
    "training": catalogue.TRAINING,
    "theory": catalogue.THEORY,
    "comparison": catalogue.COMPARISON,
}
_BLOCK = re.compile(r"<!-- numbers: (\w+) -->\n.*?<!-- end of numbers -->", re.DOTALL)


def number_table(group: Mapping[str, Quantity]) -> str:
    """A row a number in Markdown: key, title, meaning, unit, better side."""
    rows = ["| key | title | what it is | unit | better |", "|---|---|---|---|---|"]
    for key, quantity in group.items():
        title = " ".join(quantity.title.split())  # of the breaks that a page keeps
        cells = (f"`{key}`", title, quantity.meaning, quantity.unit, quantity.direction)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def filled(document: str) -> str:
    """The document with the table of its group in every `<!-- numbers: GROUP -->` block.

    Raises:
      DataError: a block names no group.
    """
    return _BLOCK.sub(_block, document)


def _block(found: re.Match[str]) -> str:
    name = found[1]
    if name not in GROUPS:
        raise DataError(f"numbers: got {name!r}, expected one of {', '.join(GROUPS)}. Correct it.")
    return f"<!-- numbers: {name} -->\n{number_table(GROUPS[name])}\n<!-- end of numbers -->"
