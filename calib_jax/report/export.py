"""The results table in files for other programs: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.report import data, tables
from calib_jax.report.data import Stat

Results = Mapping[str, Any]
Experiments = Sequence[tuple[str, Results]]

_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    tables.DASH: "--",
}


def write_tables(folder: pathlib.Path, experiments: Experiments) -> None:
    """Writes `table.md`, `table.csv` and `table.tex` into the folder.

    Args:
      folder: must exist.
      experiments: titles, and what has a results table; with more than one, each has its part in
        Markdown and LaTeX, and CSV has their titles as its first column.
    """
    texts = {
        "md": _markdown(experiments),
        "csv": _csv(experiments),
        "tex": _latex(experiments),
    }
    for suffix, text in texts.items():
        (folder / f"table.{suffix}").write_text(text, encoding="utf-8", newline="\n")


def csv_table(results: Results) -> str:
    """The results table as CSV: `method`, then `<number>_mean` and `<number>_std` of each column.

    Fractions in [0, 1] to the last digit, not percent; empty where undefined, and left out where
    undefined in every row (std: one seed).

    Raises:
      DataError: `results` is of another schema or holds no finished method.
    """
    data.check(results)
    return _csv([("", results)])


def latex_table(results: Results) -> str:
    r"""The results table as a LaTeX `tabular` for booktabs, in percent, the best means in bold.

    To be used by `\input` in a `table`; how to read it stands above it as a comment.

    Raises:
      DataError: `results` is of another schema or holds no finished method.
    """
    data.check(results)
    return _latex([("", results)])


def latex_escape(text: str) -> str:
    """The text on one line with every character that means something in LaTeX replaced."""
    return "".join(_LATEX.get(mark, mark) for mark in _one_line(text))


def _columns(experiments: Experiments) -> list[str]:
    """The columns of the results tables; one that only some have is in all."""
    found = [key for _, results in experiments for key in tables.columns(results)]
    return [key for key in tables.ALL_COLUMNS if key in found]


def _markdown(experiments: Experiments) -> str:
    texts = [(title, tables.markdown_text(results)) for title, results in experiments]
    if len(texts) == 1:
        return texts[0][1]
    return "\n".join(f"## {title}\n\n{text}" for title, text in texts)


def _csv(experiments: Experiments) -> str:
    several = len(experiments) > 1
    shown = _columns(experiments)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = [(title, row) for title, results in experiments for row in results["table"]]
    numbers = {
        f"{key}_{part}": [getattr(data.table_stat(r, key), part) for _, r in rows]
        for key in shown
        for part in Stat._fields
    }
    known = {key: of for key, of in numbers.items() if any(x is not None for x in of)}
    writer.writerow([*["experiment"] * several, "method", *known])
    for (title, row), *values in zip(rows, *known.values(), strict=True):
        # The csv module writes None as nothing and a float so that it reads back the same.
        writer.writerow([*[title] * several, row["method"], *values])
    return out.getvalue()


def _latex(experiments: Experiments) -> str:
    shown = _columns(experiments)
    parts = []
    for title, results in experiments:
        name = f"\\multicolumn{{{len(shown) + 1}}}{{l}}{{\\textit{{{latex_escape(title)}}}}} \\\\\n"
        parts.append(name * (len(experiments) > 1) + "\n".join(_latex_rows(results, shown)))
    notes = dict.fromkeys(tables.note(results) for _, results in experiments)
    heads = " & ".join(["method", *(latex_escape(tables.heading(key)) for key in shown)])
    return (
        "".join(f"% In {_one_line(note)}\n" for note in notes)
        + "% Needs \\usepackage{booktabs}.\n"
        + f"\\begin{{tabular}}{{l{'r' * len(shown)}}}\n\\toprule\n{heads} \\\\\n\\midrule\n"
        + "\n\\midrule\n".join(parts)
        + "\n\\bottomrule\n\\end{tabular}\n"
    )


def _latex_rows(results: Results, shown: list[str]) -> list[str]:
    rows = [[latex_escape(row["method"])] for row in results["table"]]
    for _, stats, best in tables.summary(results, shown):
        for i, stat in enumerate(stats):
            number, *spread = tables.percent(stat).split(" ± ")
            text = f"\\textbf{{{number}}}" if i in best else latex_escape(number)
            rows[i].append(text + "".join(f" $\\pm$ {x}" for x in spread))
    return [" & ".join(row) + r" \\" for row in rows]


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
