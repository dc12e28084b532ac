"""The sections of the report page on post-hoc calibration and conformal sets under shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.evaluation import report_data, report_html, report_selection, report_tables
from calib_jax.evaluation.report_data import Stat
from calib_jax.evaluation.report_html import Cell, Row, paragraph

Results = Mapping[str, Any]

RAW = "raw"
_MAX_NAMED = 6


def calibrated(results: Results) -> str:
    """Raw and calibrated side by side: all methods in one table, each shift folded below it."""
    calibrators = report_data.names(results, "calibrated")
    if not calibrators:
        return ""
    versions = (RAW, *calibrators)
    clean, *shifted = report_data.evaluated(results)
    ece = _ece(results)
    groups = [(ece, [clean], "ID ECE, %"), (ece, shifted, "mean OOD ECE, %")]
    groups += [("nll", [clean], "ID NLL"), ("nll", shifted, "mean OOD NLL")]
    rows = [
        Row(
            method,
            [
                cell
                for key, datasets, _ in groups
                for cell in _compared(results, method, versions, datasets, key)
            ],
            report_selection.drawn(results).get(method),
        )
        for method in report_data.methods(results)
    ]
    headings = [f"{title}: {_words(version)} ↓" for _, _, title in groups for version in versions]
    answers = "".join(
        f"<li>{report_html.escape(_verdict(results, name, shifted))}</li>" for name in calibrators
    )
    text = (
        "Fitted on the validation split, which no number is reported on, and applied "
        "to every split as it is. Marked: the best of raw and calibrated in a row."
    )
    shifts = "".join(
        report_html.folded(
            f"{method} on every shift", _by_split(results, method, versions, [clean, *shifted])
        )
        for method in report_selection.drawn(results)
    )
    table = report_html.table(["method", *headings], rows)
    return f"<ul>{answers}</ul>" + paragraph(text) + table + shifts


def conformal(results: Results) -> str:
    """Coverage and mean size of the conformal sets of every method: ID, and under shift."""
    scores = [s for s in report_data.names(results, "conformal") if s != "alpha"]
    if not scores:
        return ""
    runs = results["runs"]
    alpha = report_data.stat(report_data.lookup(r, "conformal", "alpha") for r in runs).mean
    clean, *shifted = report_data.evaluated(results)
    styles, methods = report_selection.drawn(results), report_data.methods(results)
    headings = ("ID coverage, %", "ID size", "mean OOD coverage, %", "worst shift, %")
    tables = ""
    for score in scores:
        rows = [Row(m, _sets(results, m, score, clean, shifted), styles.get(m)) for m in methods]
        table = report_html.table(["method", *headings, "mean OOD size"], rows)
        title = report_tables.score_title(score)
        tables += report_html.folded(title, table, opened=len(methods) == len(styles))
    promised = report_tables.DASH if alpha is None else f"{100 * (1 - alpha):.0f} %"
    text = (
        "Sets of classes in place of one answer, calibrated on the validation split to hold the "
        f"right class for {promised} of images like those. Under shift nothing is promised: the "
        "coverage shows how much is lost. Size: classes in a set, on average."
    )
    return "<h3>Conformal sets</h3>" + paragraph(text) + tables


def _ece(results: Results) -> str:
    return f"ece_{results.get('num_bins')}"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _metrics(run: Mapping[str, Any], version: str) -> Mapping[str, Any]:
    """Metrics by split of a run, raw or after a calibrator."""
    keys = ("metrics",) if version == RAW else ("calibrated", version, "metrics")
    return report_data.lookup(run, *keys) or {}


def _mean_over(
    results: Results, method: str, version: str, datasets: Sequence[str], key: str
) -> Stat:
    """A metric's mean over data sets, each counting the same; None where one has no number."""
    means = []
    for run in results["runs"]:
        if run["method"] == method and datasets:
            found = [
                report_data.number(report_data.lookup(_metrics(run, version), dataset, key))
                for dataset in datasets
            ]
            numbers = [value for value in found if value is not None]
            means.append(float(np.mean(numbers)) if len(numbers) == len(datasets) else None)
    return report_data.stat(means)


def _compared(
    results: Results, method: str, versions: Sequence[str], datasets: Sequence[str], key: str
) -> list[Cell]:
    """A cell for raw and for each calibrator, the best of them marked."""
    stats = [_mean_over(results, method, version, datasets, key) for version in versions]
    best = report_tables.best(stats, higher_is_better=False)
    return [Cell(report_tables.metric(key, s), i in best) for i, s in enumerate(stats)]


def _verdict(results: Results, calibrator: str, shifted: Sequence[str]) -> str:
    """Whether the mean OOD ECE falls, in words."""
    pairs = {}
    for method in report_data.methods(results):
        raw, after = (
            _mean_over(results, method, version, shifted, _ece(results)).mean
            for version in (RAW, calibrator)
        )
        if raw is not None and after is not None:
            pairs[method] = (raw, after)
    name = _words(calibrator)
    if not pairs:
        return f"{name}: no shift to look at."
    worse = [method for method, (raw, after) in pairs.items() if after >= raw]
    if len(results["table"]) == 1:
        ((raw, after),) = pairs.values()
        verb = "does not fall: it goes" if worse else "falls"
        return f"{name}: the mean OOD ECE {verb} from {100 * raw:.1f} to {100 * after:.1f} %."
    before, now = (100 * float(np.mean(values)) for values in zip(*pairs.values(), strict=True))
    named = ", ".join(worse[:_MAX_NAMED])
    named += f" and {len(worse) - _MAX_NAMED} more" if len(worse) > _MAX_NAMED else ""
    text = (
        f"{name}: the mean OOD ECE falls for {len(pairs) - len(worse)} of {len(pairs)} methods; "
        f"on average over the methods from {before:.1f} to {now:.1f} %."
    )
    return text + (f" It does not fall for {named}." if worse else "")


def _by_split(
    results: Results, method: str, versions: Sequence[str], datasets: Sequence[str]
) -> str:
    """One method: each split with its ECE and NLL, raw and calibrated, and what was fitted."""
    titles = {_ece(results): "ECE, %", "nll": "NLL"}
    rows = [
        Row(
            dataset,
            [
                cell
                for key in titles
                for cell in _compared(results, method, versions, [dataset], key)
            ],
        )
        for dataset in datasets
    ]
    headings = [
        f"{title}: {_words(version)} ↓" for title in titles.values() for version in versions
    ]
    fitted = [
        " ".join(_words(part) for part in dict.fromkeys((name, parameter)))
        + " "
        + report_tables.plain(
            report_data.over_seeds(results, method, "calibrated", name, "parameters", parameter)
        )
        for name in versions[1:]
        for parameter in report_data.names(results, "calibrated", name, "parameters")
    ]
    note = paragraph(f"Fitted: {'; '.join(fitted)}.") if fitted else ""
    return report_html.table(["split", *headings], rows) + note


def _sets(
    results: Results, method: str, score: str, clean: str, shifted: Sequence[str]
) -> list[Cell]:
    """Coverage and size on the ID split; mean and worst coverage, mean size over the shifts."""

    def stats(key: str, datasets: Sequence[str]) -> list[Stat]:
        return [
            report_data.over_seeds(results, method, "conformal", score, dataset, key)
            for dataset in datasets
        ]

    coverage = [s.mean for s in stats("coverage", shifted) if s.mean is not None]
    sizes = [s.mean for s in stats("mean_size", shifted) if s.mean is not None]
    return [
        Cell(report_tables.percent(stats("coverage", [clean])[0])),
        Cell(report_tables.plain(stats("mean_size", [clean])[0])),
        Cell(report_tables.percent(Stat(float(np.mean(coverage)) if coverage else None))),
        Cell(report_tables.percent(Stat(min(coverage) if coverage else None))),
        Cell(report_tables.plain(Stat(float(np.mean(sizes)) if sizes else None))),
    ]
