"""The page of a study, in HTML and in Markdown: several experiments, one comparison each."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Set
from typing import Any

from calib_jax.report import bound, data, export, markup
from calib_jax.report.comparison import ACCURACY, CALIBRATION
from calib_jax.report.data import table_stat
from calib_jax.report.escaping import markdown, markdown_block
from calib_jax.report.figures import OTHER, style
from calib_jax.report.markup import Row, escape, paragraph
from calib_jax.report.scatter import Point, scatter
from calib_jax.report.study_tables import Passage, sections

_SCATTER = "Accuracy against calibration"
_ALL_NAMED = 8  # with more methods their names hide each other


def write_study(path: pathlib.Path, study: Mapping[str, Any]) -> None:
    """Writes the page, the same bytes for the same study.

    Its results tables lie beside it as `table.md`, `table.csv` and `table.tex`.

    Args:
      path: the HTML file to write; its folder must exist.
      study: what `collect_study` made.
    """
    study = data.printable(study)
    path.write_text(_page(study), encoding="utf-8", newline="\n")
    experiments = [
        (str(found["title"] or name), found) for name, found in study["experiments"].items()
    ]
    export.write_tables(path.parent, experiments)


def study_markdown(study: Mapping[str, Any]) -> str:
    """The study in Markdown: the text and the tables of the page, without its figure."""
    parts = [f"# {markdown(study['title'])}"]
    for title, blocks in sections(study):
        parts += [f"## {markdown(title)}", *(_markdown(block) for block in blocks)]
    return "\n\n".join(parts) + "\n"


def _page(study: Mapping[str, Any]) -> str:
    shown = [(title, "".join(map(_html, blocks))) for title, blocks in sections(study)]
    shown.insert(1, (_SCATTER, _scatters(study)))
    shown += [
        (f"Does the theory order the models? {found['title'] or name}", bound.bound(found))
        for name, found in study["experiments"].items()
    ]
    parts = [(f"s{i}", title, html) for i, (title, html) in enumerate(shown) if html]
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in parts)
    body = "\n".join(markup.section(*part) for part in parts)
    lead = "Who stays accurate under shift, who knows how sure to be, and what the seeds can tell."
    header = f"<h1>{escape(study['title'])}</h1>{paragraph(lead, kind='lead')}<nav>{links}</nav>"
    return markup.page(study["title"], header=header, main=body)


def _scatters(study: Mapping[str, Any]) -> str:
    """OOD accuracy against OOD ECE, one figure an experiment."""
    figures = ""
    for name, experiment in study["experiments"].items():
        points = _points(experiment, {*study["baselines"], *study["calibrated"]})
        svg = scatter(
            f"OOD accuracy against OOD ECE, {name}",
            points,
            x="← better: mean OOD ECE, %",
            y="mean OOD accuracy, %: better →",
        )
        if svg:
            figures += markup.figure(svg, "", title=experiment["title"] or name)
    if not figures:
        return ""
    text = "The best are at the top left."
    if any(len(found["seeds"] or ()) > 1 for found in study["experiments"].values()):
        text += " Bars: one standard deviation over the seeds."
    if any(len(found["table"]) > _ALL_NAMED for found in study["experiments"].values()):
        text += (
            " Named: the first method, those compared with, and those that no other beats in both; "
            "point at any other mark for its name."
        )
    return paragraph(text) + f'<div class="figures">{figures}</div>'


def _points(experiment: Mapping[str, Any], compared: Set[str]) -> list[Point]:
    """A point a method; with many the named ones are filled, and last: above the others."""
    table, known = experiment["table"], {*compared, *experiment["unbeaten"]}
    points = []
    for i, row in enumerate(table):
        named = not i or row["method"] in known or len(table) <= _ALL_NAMED
        of = style(i)._replace(hatched=False) if named else OTHER
        x, y = table_stat(row, CALIBRATION), table_stat(row, ACCURACY)
        points.append(Point(row["method"], x, y, of, named=named))
    return sorted(points, key=lambda point: point.named)


def _html(block: Passage) -> str:
    html = markup.table(block.columns, block.rows, wide=True) if block.rows else ""
    if block.points:
        html += f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in block.points)}</ul>"
    html += paragraph(block.note) if block.note else ""
    if block.folded:
        return markup.folded(block.title, html)
    return (f"<h3>{escape(block.title)}</h3>" if block.title else "") + html


def _markdown(block: Passage) -> str:
    parts = [f"### {markdown(block.title)}"] if block.title else []
    if block.rows:
        lines = [[markdown(column) for column in block.columns]]
        lines.append(["---", *["---:"] * (len(block.columns) - 1)])
        lines += [_markdown_row(row) for row in block.rows]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    if block.points:
        parts.append("\n".join(f"- {markdown_block(point)}" for point in block.points))
    if block.note:
        parts.append(markdown_block(block.note))
    return "\n\n".join(parts)


def _markdown_row(row: Row) -> list[str]:
    cells = [(markdown(cell.text), cell.best) for cell in row.cells]
    return [markdown(row.name), *(f"**{text}**" if best else text for text, best in cells)]
