"""The sections of the report page on post-hoc calibration and conformal sets under shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.metrics import catalogue
from calib_jax.report import data, markup, selection, tables
from calib_jax.report.data import Stat
from calib_jax.report.markup import Cell, Row, paragraph

Results = Mapping[str, Any]

RAW = "raw"
_MAX_NAMED = 6


def calibrated(results: Results) -> str:
    """Raw and calibrated side by side: all methods in one table, each split folded below it.

    Of a single method, the splits alone.
    """
    calibrators = data.names(results, "calibrated")
    if not calibrators:
        return ""
    versions = (RAW, *calibrators)
    answers = "".join(f"<li>{markup.escape(_verdict(results, name))}</li>" for name in calibrators)
    text = (
        "What is fitted is fitted on the validation split, which no number is reported on, and "
        "applied to every split as it is. Marked: the best of raw and calibrated in a row."
    )
    notes = "".join(f"<li>{markup.escape(line)}</li>" for line in _notes(results))
    notes = f'<ul class="note">{notes}</ul>' * bool(notes)
    splits = {m: _by_split(results, m, versions) for m in selection.drawn(results)}
    if len(splits) == 1:
        folds = "".join(splits.values()) + notes
    else:
        folded = (markup.folded(f"{m} on every split", html) for m, html in splits.items())
        folds = _by_method(results, versions) + notes + "".join(folded)
    return f"<ul>{answers}</ul>" + paragraph(text) + folds


def conformal(results: Results) -> str:
    """Coverage and mean size of the conformal sets of every method: ID, and under shift."""
    scores = [s for s in data.names(results, "conformal") if s != "alpha"]
    if not scores:
        return ""
    alphas = (data.number(data.lookup(r, "conformal", "alpha")) for r in results["runs"])
    alpha = next((alpha for alpha in alphas if alpha is not None), None)
    clean, *shifted = data.evaluated(results)
    styles, methods = selection.drawn(results), data.methods(results)
    headings = ["ID coverage, %", "ID size"]
    worst = ["worst shift, %"] * (len(shifted) > 1)
    headings += ["mean OOD coverage, %", *worst, "mean OOD size"] if shifted else []
    folds = ""
    for score in scores:
        rows = [Row(m, _sets(results, m, score, clean, shifted), styles.get(m)) for m in methods]
        table = markup.table(["method", *headings], rows)
        title = tables.score_title(score)
        folds += markup.folded(title, table, opened=len(methods) == len(styles))
    promised = tables.DASH if alpha is None else f"{100 * (1 - alpha):.0f} %"
    text = (
        "Sets of classes in place of one answer, calibrated on the validation split to hold the "
        f"right class for {promised} of examples like those. Size: classes in a set, on average."
    )
    if shifted:
        text += " Under shift nothing is promised: the coverage shows how much is lost."
    return "<h3>Conformal sets</h3>" + paragraph(text) + folds


def _titles(results: Results) -> dict[str, str]:
    """The compared metrics and their headings."""
    return {data.ece(results): "ECE, %", "nll": catalogue.of("nll").title}


def _notes(results: Results) -> list[str]:
    """What the calibrators had to say, each once: `temperature: text (flyp, carot)`."""
    found: dict[str, dict[str, None]] = {}
    for run in results["runs"]:
        for name, record in (run.get("calibrated") or {}).items():
            for text in record.get("notes") or ():
                found.setdefault(f"{_words(name)}: {text}", {})[run["method"]] = None
    return [f"{text} ({', '.join(methods)})" for text, methods in found.items()]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _number(results: Results, method: str, version: str, datasets: Sequence[str], key: str) -> Stat:
    """A metric of one data set, or its mean over the shifts."""
    if len(datasets) > 1:
        found = data.lookup(results["page"], "over_shifts", method, version)
        return data.table_stat(found or {}, key)
    path = () if version == RAW else ("calibrated", version)
    return data.over_seeds(results, method, *path, "metrics", *datasets, key)


def _compared(
    results: Results, method: str, versions: Sequence[str], datasets: Sequence[str], key: str
) -> list[Cell]:
    """A cell for raw and for each calibrator, the best of them marked."""
    quantity = data.quantity(results, key)
    stats = [_number(results, method, version, datasets, key) for version in versions]
    best = tables.best(stats, quantity.direction)
    return [Cell(tables.shown(quantity, s), i in best) for i, s in enumerate(stats)]


def _verdict(results: Results, calibrator: str) -> str:
    """Whether the mean OOD ECE falls, in words; without shifts the ID ECE."""
    what = "mean OOD ECE" if data.evaluated(results)[1:] else "ID ECE"
    fall, name = results["page"]["calibration"][calibrator], _words(calibrator)
    num_methods, worse = fall["num_methods"], fall["does_not_fall"]
    if not num_methods:
        return f"{name}: no {what} to look at."
    change = f"from {100 * fall['before']:.1f} to {100 * fall['after']:.1f} %."
    if len(results["table"]) == 1:
        verb = "does not fall: it goes" if worse else "falls"
        return f"{name}: the {what} {verb} {change}"
    named = ", ".join(worse[:_MAX_NAMED])
    named += f" and {len(worse) - _MAX_NAMED} more" if len(worse) > _MAX_NAMED else ""
    better = num_methods - len(worse)
    some = f"{better} of {num_methods}" if better else f"none of the {num_methods}"
    goes = "" if better else "it goes "
    text = (
        f"{name}: the {what} falls for {some} methods; on average over the methods {goes}{change}"
    )
    return text + (f" It does not fall for {named}." if worse and better else "")


def _by_method(results: Results, versions: Sequence[str]) -> str:
    """Every method with its ECE and NLL, ID and under shift, raw and calibrated."""
    clean, *shifted = data.evaluated(results)
    groups = [
        (key, datasets, f"{where} {title}")
        for key, title in _titles(results).items()
        for where, datasets in (("ID", [clean]), ("mean OOD", shifted))
        if datasets
    ]
    rows = [
        Row(
            method,
            [
                cell
                for key, datasets, _ in groups
                for cell in _compared(results, method, versions, datasets, key)
            ],
            selection.drawn(results).get(method),
        )
        for method in data.methods(results)
    ]
    headings = [f"{title}: {_words(version)} ↓" for _, _, title in groups for version in versions]
    return markup.table(["method", *headings], rows)


def _by_split(results: Results, method: str, versions: Sequence[str]) -> str:
    """One method: each split with its ECE and NLL, raw and calibrated, and what was fitted."""
    titles, splits = _titles(results), data.evaluated(results)
    named = [(split, [split]) for split in splits]
    if len(splits) > 2:
        named.append((f"mean over {len(splits) - 1} shifts", splits[1:]))
    rows = [
        Row(
            name,
            [
                cell
                for key in titles
                for cell in _compared(results, method, versions, datasets, key)
            ],
        )
        for name, datasets in named
    ]
    headings = [
        f"{title}: {_words(version)} ↓" for title in titles.values() for version in versions
    ]
    fitted = _fitted(results, method, versions[1:])
    note = paragraph(f"Fitted: {'; '.join(fitted)}.") if fitted else ""
    return markup.table(["split", *headings], rows) + note


def _fitted(results: Results, method: str, calibrators: Sequence[str]) -> list[str]:
    """`temperature 1.250` of each fitted scalar."""
    found = []
    for name in calibrators:
        for parameter in data.names(results, "calibrated", name, "parameters"):
            keys = ("calibrated", name, "parameters", parameter)
            stat = data.over_seeds(results, method, *keys)
            if stat.mean is not None:
                words = " ".join(map(_words, dict.fromkeys((name, parameter))))
                found.append(f"{words} {tables.plain(stat)}")
    return found


def _sets(
    results: Results, method: str, score: str, clean: str, shifted: Sequence[str]
) -> list[Cell]:
    """Coverage and size on the ID split, their means over any shifts; of several the worst too."""
    path = ("conformal", score, clean)
    cells = [
        Cell(tables.percent(data.over_seeds(results, method, *path, "coverage"))),
        Cell(tables.plain(data.over_seeds(results, method, *path, "mean_size"))),
    ]
    if not shifted:
        return cells
    over = data.lookup(results["page"]["sets_over_shifts"], method, score) or {}
    coverage, worst, size = (
        Stat(data.number(over.get(key))) for key in ("coverage", "worst_coverage", "mean_size")
    )
    worst_cell = [Cell(tables.percent(worst))] * (len(shifted) > 1)
    return [*cells, Cell(tables.percent(coverage)), *worst_cell, Cell(tables.plain(size))]
