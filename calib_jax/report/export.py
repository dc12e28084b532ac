"""The results table in files for other programs: Markdown, CSV and LaTeX."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.core.printing import one_line
from calib_jax.report import data, tables
from calib_jax.report.data import Stat
from calib_jax.report.escaping import csv_field, latex, markdown

Results = Mapping[str, Any]
Experiments = Sequence[tuple[str, Results]]


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
        path = folder / f"table.{suffix}"
        path.write_text(text, "utf-8", "backslashreplace", newline="\n")


def csv_table(results: Results) -> str:
    """The results table as CSV: `method`, then `<number>_mean` and `<number>_std` of each column.

    Fractions in [0, 1] to the last digit, not percent; empty where undefined, and left out where
    undefined in every row (std: one seed). A name that a spreadsheet would take for a formula has a
    `'` before it (`escaping.csv_field`).

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


def _columns(experiments: Experiments) -> list[str]:
    """The columns of the results tables; one that only some have is in all."""
    found = [key for _, results in experiments for key in tables.columns(results)]
    return [key for key in tables.ALL_COLUMNS if key in found]


def _markdown(experiments: Experiments) -> str:
    texts = [(title, tables.markdown_text(results)) for title, results in experiments]
    if len(texts) == 1:
        return texts[0][1]
    return "\n".join(f"## {markdown(title)}\n\n{text}" for title, text in texts)


def _csv(experiments: Experiments) -> str:
    several = len(experiments) > 1
    shown = _columns(experiments)
    rows = [(title, row) for title, results in experiments for row in results["table"]]
    numbers = {
        f"{key}_{part}": [getattr(data.table_stat(r, key), part) for _, r in rows]
        for key in shown
        for part in Stat._fields
    }
    known = {key: of for key, of in numbers.items() if any(x is not None for x in of)}
    lines = [[*["experiment"] * several, "method", *known]]
    for (title, row), *values in zip(rows, *known.values(), strict=True):
        lines.append([*[title] * several, row["method"], *values])
    return "".join(f"{','.join(map(csv_field, line))}\n" for line in lines)


def _latex(experiments: Experiments) -> str:
    shown = _columns(experiments)
    parts = []
    for title, results in experiments:
        name = f"\\multicolumn{{{len(shown) + 1}}}{{l}}{{\\textit{{{latex(title)}}}}} \\\\\n"
        parts.append(name * (len(experiments) > 1) + "\n".join(_latex_rows(results, shown)))
    notes = dict.fromkeys(tables.note(results) for _, results in experiments)
    heads = " & ".join(["method", *(latex(tables.heading(key)) for key in shown)])
    return (
        "".join(f"% In {one_line(note)}\n" for note in notes)
        + "% Needs \\usepackage{booktabs}.\n"
        + f"\\begin{{tabular}}{{l{'r' * len(shown)}}}\n\\toprule\n{heads} \\\\\n\\midrule\n"
        + "\n\\midrule\n".join(parts)
        + "\n\\bottomrule\n\\end{tabular}\n"
    )


def _latex_rows(results: Results, shown: list[str]) -> list[str]:
    rows = [[latex(row["method"])] for row in results["table"]]
    for _, stats, best in tables.summary(results, shown):
        for i, stat in enumerate(stats):
            number, *spread = tables.percent(stat).split(" ± ")
            text = f"\\textbf{{{number}}}" if i in best else latex(number)
            rows[i].append(text + "".join(f" $\\pm$ {x}" for x in spread))
    return [" & ".join(row) + r" \\" for row in rows]
