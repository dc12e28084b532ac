"""The results table for the terminal and for Markdown, and how a number is written.

Fractions are shown in percent with one decimal. The best value of a column is marked;
values that look the same at the shown precision share the mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from calib_jax.core.printing import one_line
from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import Direction, Quantity
from calib_jax.report import data, escaping
from calib_jax.report.data import Stat

DASH = "–"


COLUMNS = ("id_accuracy", "ood_accuracy", "id_ece", "ood_ece", "near_auroc", "far_auroc")
"""The keys of the results table, in its order."""

# For pages and files, where the results have them; a terminal has no room.
OPTIONAL = (
    *("worst_shift_accuracy", "worst_shift_ece"),
    *("ood_ece_calibrated", "effective_robustness"),
)
ALL_COLUMNS = COLUMNS + OPTIONAL
_WORST = {"worst_shift_accuracy", "worst_shift_ece"}


def percent(value: Stat) -> str:
    """`81.2 ± 0.4` for fractions in [0, 1]; no spread with one seed, a dash if missing."""
    return _with_spread(value, scale=100.0, decimals=1)


def shown(quantity: Quantity, value: Stat) -> str:
    """A number in its own unit: percent for fractions, three decimals for NLL and Brier."""
    return _with_spread(value, scale=quantity.scale, decimals=quantity.shown_decimals)


def plain(value: Stat) -> str:
    """`1.234 ± 0.020` for what is no fraction; a dash if missing."""
    return _with_spread(value, scale=1.0, decimals=3)


def heading(key: str) -> str:
    """The title of a column of the results table, with an arrow to the better side."""
    return catalogue.of(key, catalogue.SUMMARY).heading


def best(stats: Sequence[Stat], direction: Direction) -> set[int]:
    """Positions of the best mean, ties at a tenth of a percent included.

    Empty with fewer than two numbers: there is no contest.
    """
    means = {i: round(s.mean * 100, 1) for i, s in enumerate(stats) if s.mean is not None}
    if direction == "neither" or len(means) < 2:
        return set()
    top = (max if direction == "higher" else min)(means.values())
    return {i for i, value in means.items() if value == top}


def columns(results: Mapping[str, Any]) -> list[str]:
    """The columns for pages and files: those in which any method has a number.

    Of a single shift, which is the mean and the worst, once.
    """
    rows, single = results["table"], len(results["datasets"].get("shifts") or ()) == 1
    known = [
        key
        for key in ALL_COLUMNS
        if not (single and key in _WORST)
        and any(data.table_stat(row, key).mean is not None for row in rows)
    ]
    return known or list(COLUMNS)


def summary(
    results: Mapping[str, Any], keys: Sequence[str] = COLUMNS
) -> list[tuple[str, list[Stat], set[int]]]:
    """For each column of the results table: its values by method and where the best ones are."""
    found = []
    for key in keys:
        stats = [data.table_stat(row, key) for row in results["table"]]
        found.append((key, stats, best(stats, catalogue.of(key, catalogue.SUMMARY).direction)))
    return found


def terminal_table(results: Mapping[str, Any]) -> rich.table.Table:
    """The results table in percent, one row a method, the best of each column in bold.

    Raises:
      DataError: `results` is of another schema or holds no finished method.
    """
    data.check(results)
    numbers = summary(results, [key for key in columns(results) if key in COLUMNS])
    table = rich.table.Table(
        title=rich.text.Text(one_line(str(results.get("title", "")))),
        caption=rich.text.Text(one_line(note(results))),
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("method", overflow="fold")
    for key, _, _ in numbers:
        # Two lines: with seven columns and spreads the table then fits 80 characters.
        table.add_column(_two_lines(key), justify="right")
    for i, method in enumerate(data.methods(results)):
        cells = [
            rich.text.Text(percent(stats[i]).replace(" ", ""), style="bold" if i in marked else "")
            for _, stats, marked in numbers
        ]
        table.add_row(rich.text.Text(one_line(method)), *cells)
    return table


def markdown_table(results: Mapping[str, Any]) -> str:
    """The results table in Markdown (percent, the best of each column in bold) with its note.

    Raises:
      DataError: `results` is of another schema or holds no finished method.
    """
    data.check(results)
    return markdown_text(results)


def markdown_text(results: Mapping[str, Any]) -> str:
    """`markdown_table` of what need not be a whole run: `table` and what `note` reads."""
    numbers = summary(results, columns(results))
    lines = [
        ["method", *(heading(key) for key, _, _ in numbers)],
        ["---", *("---:" for _ in numbers)],
    ]
    for i, row in enumerate(results["table"]):
        cells = [(percent(stats[i]), i in marked) for _, stats, marked in numbers]
        texts = [f"**{text}**" if bold else text for text, bold in cells]
        lines.append([escaping.markdown(row["method"]), *texts])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n{escaping.markdown_block(note(results))}\n"


def note(results: Mapping[str, Any]) -> str:
    """One line on how to read the table: unit, spread, bins, score, tuning split."""
    spread = "" if data.of_files(results) else "one seed; "
    if data.has_seeds(results):
        spread = f"mean ± sample std over {len(results['seeds'])} seeds; "
    score, tuned_on = results.get("table_score"), results.get("tuned_on")
    unknown = data.out_of_distribution(results)
    return (
        f"%; {spread}ECE with {results.get('num_bins', DASH)} bins"
        + (f"; AUROC of {score_title(score)}, ID positive" if score and unknown else "")
        + (f"; tuned on {tuned_on}" if tuned_on else "")
    )


def score_title(score: object) -> str:
    """The name of an OOD score for people: abbreviations in capitals, words with spaces."""
    if not score:
        return DASH
    return (
        str(score).upper()
        if str(score) in {"mcm", "msp", "thr", "aps", "raps"}
        else str(score).replace("_", " ")
    )


def _two_lines(key: str) -> str:
    """The heading with its measure and arrow on the second line."""
    group, measure = catalogue.of(key, catalogue.SUMMARY).title.rsplit(" ", 1)
    return heading(key).replace(f"{group} {measure}", f"{group}\n{measure}")


def _with_spread(value: Stat, *, scale: float, decimals: int) -> str:
    """The number, and its spread where there is one."""
    if value.mean is None:
        return DASH
    text = f"{value.mean * scale:.{decimals}f}"
    return text if value.std is None else f"{text} ± {value.std * scale:.{decimals}f}"
