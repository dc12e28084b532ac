"""The results table for the terminal and for Markdown, and how a number is written.

Fractions are shown in percent with one decimal. The best value of a column is marked;
values that look the same at the shown precision share the mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import rich.box
import rich.table
import rich.text

from calib_jax.report import data
from calib_jax.report.data import Stat

DASH = "–"


class Column(NamedTuple):
    """A column of the results table."""

    key: str
    title: str
    higher_is_better: bool

    @property
    def heading(self) -> str:
        """The title with an arrow to the better side."""
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


COLUMNS = (
    Column("id_accuracy", "ID acc", True),
    Column("ood_accuracy", "mean OOD acc", True),
    Column("id_ece", "ID ECE", False),
    Column("ood_ece", "mean OOD ECE", False),
    Column("near_auroc", "near AUROC", True),
    Column("far_auroc", "far AUROC", True),
)
# For pages and files, where the results have them; a terminal has no room.
OPTIONAL = (
    Column("worst_shift_accuracy", "worst OOD acc", True),
    Column("worst_shift_ece", "worst OOD ECE", False),
    Column("ood_ece_calibrated", "mean OOD ECE, T scaled", False),
    Column("effective_robustness", "effective robustness", True),
)
ALL_COLUMNS = COLUMNS + OPTIONAL
_WORST = {"worst_shift_accuracy", "worst_shift_ece"}
# Metrics that are not fractions: shown as they are, with three decimals.
_PLAIN = {"nll", "brier", "brier_reliability", "brier_resolution", "brier_uncertainty"}
_LOWER = ("ece", "mce", "nll", "brier", "fpr95", "ks", "aurc", "augrc")
# Neither side is better; the Brier score's resolution is its only part that should be large.
_NEITHER = {"mean_confidence", "brier_uncertainty"}
_HIGHER = {"brier_resolution"}
_TITLES = {
    "ks": "KS error",
    "mce": "MCE",
    "nll": "NLL",
    "brier": "Brier",
    "brier_reliability": "Brier reliability",
    "brier_resolution": "Brier resolution",
    "brier_uncertainty": "Brier uncertainty",
    "aurc": "AURC",
    "augrc": "AUGRC",
    "auroc": "AUROC",
    "aupr_id": "AUPR, ID positive",
    "aupr_ood": "AUPR, OOD positive",
    "fpr95_id_positive": "FPR95, ID positive",
    "fpr95_ood_positive": "FPR95, OOD positive",
    # A long heading in a narrow column: it may break after a few words, not after each.
    "ece_10_per_batch_512": (
        "ECE~10~averaged over~batches~of~512, only~to~compare with~papers"
    ).replace("~", "\N{NO-BREAK SPACE}"),
}


def percent(value: Stat) -> str:
    """`81.2 ± 0.4` for fractions in [0, 1]; no spread with one seed, a dash if missing."""
    return _with_spread(value, scale=100.0, decimals=1)


def metric(key: str, value: Stat) -> str:
    """A metric in its own unit: percent for fractions, three decimals for NLL and Brier."""
    return plain(value) if key in _PLAIN else percent(value)


def plain(value: Stat) -> str:
    """`1.234 ± 0.020` for what is no fraction; a dash if missing."""
    return _with_spread(value, scale=1.0, decimals=3)


def higher_is_better(key: str) -> bool | None:
    """The better side of a metric; None for one without a better side (mean confidence)."""
    if key in _NEITHER:
        return None
    return key in _HIGHER or not any(part in key for part in _LOWER)


def metric_heading(key: str) -> str:
    """A metric's key as words with an arrow to its better side."""
    words = _TITLES.get(key) or key.replace("_", " ").replace("ece", "ECE").replace("f1", "F1")
    return words + {True: " ↑", False: " ↓", None: ""}[higher_is_better(key)]


def best(stats: Sequence[Stat], *, higher_is_better: bool | None) -> set[int]:
    """Positions of the best mean, ties at a tenth of a percent included.

    Empty with fewer than two numbers: there is no contest.
    """
    shown = {i: round(s.mean * 100, 1) for i, s in enumerate(stats) if s.mean is not None}
    if higher_is_better is None or len(shown) < 2:
        return set()
    top = (max if higher_is_better else min)(shown.values())
    return {i for i, value in shown.items() if value == top}


def columns(results: Mapping[str, Any]) -> list[Column]:
    """The columns for pages and files: those in which any method has a number.

    Of a single shift, which is the mean and the worst, once.
    """
    rows, single = results["table"], len(results["datasets"].get("shifts") or ()) == 1
    known = [
        column
        for column in ALL_COLUMNS
        if not (single and column.key in _WORST)
        and any(data.table_stat(row, column.key).mean is not None for row in rows)
    ]
    return known or list(COLUMNS)


def summary(
    results: Mapping[str, Any], shown: Sequence[Column] = COLUMNS
) -> list[tuple[Column, list[Stat], set[int]]]:
    """For each column of the results table: its values by method and where the best ones are."""
    found = []
    for column in shown:
        stats = [data.table_stat(row, column.key) for row in results["table"]]
        marked = best(stats, higher_is_better=column.higher_is_better)
        found.append((column, stats, marked))
    return found


def terminal_table(results: Mapping[str, Any]) -> rich.table.Table:
    """The results table in percent, one row a method, the best of each column in bold.

    Raises:
      DataError: `results` is of another schema or holds no finished method.
    """
    data.check(results)
    numbers = summary(results, [c for c in columns(results) if c in COLUMNS])
    table = rich.table.Table(
        title=rich.text.Text(str(results.get("title", ""))),
        caption=rich.text.Text(note(results)),
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("method", overflow="fold")
    for column, _, _ in numbers:
        # Two lines: with seven columns and spreads the table then fits 80 characters.
        table.add_column(_two_lines(column), justify="right")
    for i, method in enumerate(data.methods(results)):
        cells = [
            rich.text.Text(percent(stats[i]).replace(" ", ""), style="bold" if i in marked else "")
            for _, stats, marked in numbers
        ]
        table.add_row(rich.text.Text(method), *cells)
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
        ["method", *(column.heading for column, _, _ in numbers)],
        ["---", *("---:" for _ in numbers)],
    ]
    for i, row in enumerate(results["table"]):
        cells = [(percent(stats[i]), i in marked) for _, stats, marked in numbers]
        texts = [f"**{text}**" if bold else text for text, bold in cells]
        lines.append([row["method"].replace("|", "\\|"), *texts])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n{note(results)}\n"


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


def _two_lines(column: Column) -> str:
    """The heading with its measure and arrow on the second line."""
    group, measure = column.title.rsplit(" ", 1)
    return column.heading.replace(f"{group} {measure}", f"{group}\n{measure}")


def _with_spread(value: Stat, *, scale: float, decimals: int) -> str:
    """The number, and its spread where there is one."""
    if value.mean is None:
        return DASH
    text = f"{value.mean * scale:.{decimals}f}"
    return text if value.std is None else f"{text} ± {value.std * scale:.{decimals}f}"
