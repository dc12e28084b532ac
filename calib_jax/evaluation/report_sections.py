"""The sections of the report page, each a function of `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.evaluation import report_data, report_figures, report_html, report_tables
from calib_jax.evaluation.report_data import Stat
from calib_jax.evaluation.report_figures import style
from calib_jax.evaluation.report_html import Cell, Row, escape, paragraph

Results = Mapping[str, Any]

_DETECTION = (
    ("auroc", "AUROC ↑ (50 is chance)"),
    ("fpr95_id_positive", "FPR95 ↓, ID positive: unknown images accepted when 95 % of ID are"),
    ("fpr95_ood_positive", "FPR95 ↓, OOD positive: ID images rejected when 95 % of unknown are"),
)
_PRECISION = (
    ("aupr_id", "AUPR ↑, ID positive"),
    ("aupr_ood", "AUPR ↑, OOD positive"),
)
_LONG = 90  # characters beyond which a fact takes a row of its own
_TILES = {
    "ood_accuracy": "Most accurate under shift",
    "ood_ece": "Best calibrated under shift",
    "near_auroc": "Best on near-OOD",
    "far_auroc": "Best on far-OOD",
}


def headline(results: Results) -> str:
    """The title and what was run: data, seeds, device, wall time, conventions."""
    data, environment = results["datasets"], results.get("environment") or {}
    listed = {key: ", ".join(data.get(key) or ()) for key in ("shifts", "near", "far")}
    sizes = "; ".join(f"{k}: {v}" for k, v in (data.get("num_examples") or {}).items())
    num_seeds = len(results.get("seeds") or ())
    facts = {
        "In-distribution (ID)": data["id"],
        f"Shifts ({len(data.get('shifts') or ())})": listed["shifts"],
        "Unknown classes, near": listed["near"],
        "Unknown classes, far": listed["far"],
        "Images tested": sizes,
        "Seeds": ", ".join(map(str, results.get("seeds") or ())),
        "Hyper-parameters chosen on": results.get("tuned_on"),
        "Calibration error": f"{results.get('num_bins')} bins of equal width",
        "OOD score": f"{report_tables.score_title(results.get('table_score'))}; higher = more "
        "in-distribution, ID is the positive class",
        "Device": f"{environment.get('num_devices', '?')} × "
        f"{environment.get('device_kind', '?')} ({environment.get('platform', '?')})",
        "Wall time": duration(environment.get("wall_seconds")),
        "Software": f"calib_jax {results.get('calib_jax_version', '?')}, JAX "
        f"{environment.get('jax', '?')}, Python {environment.get('python', '?')}",
    }
    items = "".join(
        f"<div{' class=long' * (len(str(fact)) > _LONG)}>"
        f"<dt>{escape(name)}</dt><dd>{escape(fact or report_tables.DASH)}</dd></div>"
        for name, fact in facts.items()
    )
    lead = (
        f"{_counted(len(results['table']), 'method')}, {_counted(num_seeds, 'seed')}, "
        f"{_counted(len(data.get('shifts') or ()), 'shift')} of the test images: who stays "
        "accurate, who knows how sure to be, and who notices what it has never seen."
    )
    title = escape(results.get("title") or results.get("name") or "Results")
    return f'<h1>{title}</h1>{paragraph(lead, kind="lead")}<dl class="facts">{items}</dl>'


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def outcome(results: Results) -> str:
    """The leaders and the results table, the best of each column marked."""
    columns = report_tables.summary(results)
    tiles = "".join(_tile(results, *column) for column in columns if column[0].key in _TILES)
    rows = [
        Row(
            method,
            [Cell(report_tables.percent(s[i]), i in marked) for _, s, marked in columns],
            style(i),
        )
        for i, method in enumerate(report_data.methods(results))
    ]
    headings = ["method", *(column.heading for column, _, _ in columns)]
    note = report_tables.note(results)[3:]
    caption = (
        f"All numbers in %: {note}. Bold on a tinted ground: best of the column, ties at the "
        "shown precision included. ↑ higher is better, ↓ lower is better."
    )
    return (
        f'<div class="tiles">{tiles}</div>'
        + report_html.table(headings, rows, wide=True)
        + paragraph(caption)
    )


def guide(results: Results) -> str:
    """How to read the numbers, in plain language."""
    score = report_tables.score_title(results.get("table_score"))
    seeds = len(results.get("seeds") or ())
    spread = (
        "± is the sample standard deviation over the seeds; a lead smaller than that may be chance."
        if seeds > 1
        else "There is one seed, so nothing here says how much a number would vary."
    )
    points = {
        "Accuracy": "how many images get the right name. ID: images like those it was tuned on. "
        "OOD: the same classes in changed pictures, as a plain mean over the shifts.",
        "ECE": "how far stated confidence is from reality. At an ECE of 10 % the model's "
        "confidence and its hit rate differ by ten points on average; 0 is perfect.",
        "AUROC": f"show it one image of a known and one of an unknown class: how often does the "
        f"known one get the higher {score} score? 50 % is a coin toss.",
        "Spread": spread,
    }
    items = "".join(f"<li><b>{k}</b>: {escape(text)}</li>" for k, text in points.items())
    return f"<h3>How to read this</h3><ul>{items}</ul>"


def shifts(results: Results) -> str:
    """Accuracy and ECE of every method on every shift, as bars."""
    methods, datasets = report_data.methods(results), report_data.evaluated(results)
    bins = results.get("num_bins")
    figures = ""
    for key, title, axis, limit in (
        ("accuracy", "Accuracy ↑", "accuracy, %", 100.0),
        (f"ece_{bins}", "Calibration error ↓", f"ECE ({bins} bins), %", None),
    ):
        stats = [
            [report_data.over_seeds(results, m, "metrics", d, key) for d in datasets]
            for m in methods
        ]
        caption = (
            "First the in-distribution test images, below the line the shifts; bars in the order "
            "of the legend."
        )
        if len(results.get("seeds") or ()) > 1:
            caption += " Whiskers: one standard deviation over the seeds."
        svg = report_figures.bars(f"{title} by data set", datasets, stats, axis=axis, limit=limit)
        figures += report_html.figure(svg, caption, title=title)
    return _method_legend(methods, line=False) + f'<div class="figures">{figures}</div>'


def reliability(results: Results) -> str:
    """A reliability diagram per method: in-distribution, and all shifts pooled."""
    clean, *shifted = report_data.evaluated(results)
    figures = ""
    for i, method in enumerate(report_data.methods(results)):
        panels = [
            (f"{clean} (ID)", report_data.pooled_reliability(results, method, [clean])),
            (
                f"{len(shifted)} shifts pooled",
                report_data.pooled_reliability(results, method, shifted),
            ),
        ]
        if any(bins for _, bins in panels):
            svg = report_figures.reliability(f"Reliability of {method}", panels, of=style(i))
            figures += report_html.figure(svg, "", title=method)
    if not figures:
        return ""
    return (
        paragraph(
            "Solid bars: how often the answers of a confidence bin were right. Hatched: the gap to "
            "the confidence the model stated; above the solid bar it is too sure, inside it too "
            "modest. On the dashed line the two agree. Below: where the images fall. All seeds "
            "pooled. The ECE of the pool is not the mean over shifts of the table: gaps of "
            "opposite sign cancel."
        )
        + f'<div class="figures">{figures}</div>'
    )


def detection(results: Results) -> str:
    """Every OOD score of every method on every set of unknown classes, both conventions named."""
    parts = ""
    for dataset in report_data.out_of_distribution(results):
        scores = report_data.names(results, "detection", dataset)
        if scores:
            parts += f"<h3>{escape(dataset)}</h3>"
            parts += _detection_table(results, dataset, scores, _DETECTION)
            parts += report_html.folded(
                f"Precision and recall on {dataset}",
                _detection_table(results, dataset, scores, _PRECISION),
            )
    if not parts:
        return ""
    return (
        paragraph(
            "In %, mean ± spread over the seeds. Every score is turned so that higher means more "
            "in-distribution. The best method and score of each block is marked."
        )
        + parts
    )


def every_metric(results: Results) -> str:
    """Every metric on every labelled data set, then every run by itself (both folded)."""
    methods = report_data.methods(results)
    keys = report_data.names(results, "metrics", results["datasets"]["id"])
    rows: list[Row] = []
    for dataset in report_data.evaluated(results):
        rows.append(Row(dataset))
        rows.extend(_metric_rows(results, methods, dataset, keys))
    headings = ["method", *(_heading(key) for key in keys)]
    runs = [
        Row(
            f"{run['method']}, seed {run.get('seed')}",
            [
                Cell(
                    report_tables.percent(
                        Stat(report_data.number(report_data.lookup(run, "summary", column.key)))
                    )
                )
                for column in report_tables.COLUMNS
            ]
            + [
                Cell(str(run.get("num_steps", report_tables.DASH))),
                Cell(duration(run.get("train_seconds"))),
            ],
        )
        for run in results["runs"]
    ]
    columns = [column.heading for column in report_tables.COLUMNS]
    by_run = report_html.table(["run", *columns, "steps", "training"], runs)
    note = paragraph("In %, except NLL and Brier (natural units).")
    return report_html.folded(
        "Every metric on every data set", note + report_html.table(headings, rows)
    ) + report_html.folded("Every run", by_run)


def config(results: Results) -> str:
    """The whole configuration, folded."""
    text = json.dumps(results.get("config") or {}, indent=2, default=str, ensure_ascii=False)
    return report_html.folded("Configuration", f'<pre tabindex="0">{escape(text)}</pre>')


def duration(seconds: object) -> str:
    """A duration for people: `8.1 s`, `2 min 50 s`, `1 h 5 min`."""
    value = report_data.number(seconds)
    if value is None:
        return report_tables.DASH
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _tile(
    results: Results, column: report_tables.Column, stats: Sequence[Stat], marked: set[int]
) -> str:
    """Who leads a column, by how much, and whether the lead exceeds the spread."""
    methods = report_data.methods(results)
    found = [(s.mean, i) for i, s in enumerate(stats) if s.mean is not None]
    if not found:
        return ""
    sign = -1 if column.higher_is_better else 1
    order = [i for _, i in sorted(found, key=lambda item: (sign * item[0], item[1]))]
    leaders = [methods[i] for i in order if i in marked]
    if len(leaders) > 2:
        leaders = [*leaders[:2], f"{len(leaders) - 2} more"]
    others = [i for i in order if i not in marked]
    text = f"{column.title} {_unbroken(stats[order[0]])}"
    if others:
        relation = _relation(stats[order[0]], stats[others[0]])
        text += f", {relation} {methods[others[0]]} ({_unbroken(stats[others[0]])})"
    return (
        f'<div class="tile"><span>{escape(_TILES[column.key])}</span>'
        f"<b>{escape(', '.join(leaders))}</b><span>{escape(text)}</span></div>"
    )


def _relation(first: Stat, second: Stat) -> str:
    """How sure the lead of `first` is: judged by the larger spread, if there is one."""
    if first.mean is None or second.mean is None or first.std is None or second.std is None:
        return "next is"
    close = abs(first.mean - second.mean) <= max(first.std, second.std)
    return "within the spread of" if close else "ahead of"


def _unbroken(value: Stat) -> str:
    """`81.2 ± 0.4 %` that stays on one line."""
    return f"{report_tables.percent(value)} %".replace(" ", "\N{NO-BREAK SPACE}")


def _detection_table(
    results: Results, dataset: str, scores: Sequence[str], parts: Sequence[tuple[str, str]]
) -> str:
    """Blocks of methods x scores, one block a detection metric."""
    rows: list[Row] = []
    for key, title in parts:
        rows.append(Row(title))
        methods = report_data.methods(results)
        stats = [
            [report_data.over_seeds(results, m, "detection", dataset, s, key) for s in scores]
            for m in methods
        ]
        better = report_tables.higher_is_better(key)
        marked = report_tables.best([s for row in stats for s in row], higher_is_better=better)
        for i, row in enumerate(stats):
            cells = [
                Cell(report_tables.percent(s), i * len(scores) + k in marked)
                for k, s in enumerate(row)
            ]
            rows.append(Row(methods[i], cells, style(i)))
    return report_html.table(["method", *map(report_tables.score_title, scores)], rows)


def _metric_rows(
    results: Results, methods: Sequence[str], dataset: str, keys: Sequence[str]
) -> list[Row]:
    """The metrics of every method on one data set, the best of each column marked."""
    columns = []
    for key in keys:
        stats = [report_data.over_seeds(results, m, "metrics", dataset, key) for m in methods]
        better = report_tables.higher_is_better(key)
        marked = report_tables.best(stats, higher_is_better=better)
        columns.append(
            [Cell(report_tables.metric(key, s), i in marked) for i, s in enumerate(stats)]
        )
    return [Row(m, [c[i] for c in columns], style(i)) for i, m in enumerate(methods)]


def _heading(key: str) -> str:
    """A metric's key as words with an arrow to its better side."""
    better = report_tables.higher_is_better(key)
    return key.replace("_", " ") + {True: " ↑", False: " ↓", None: ""}[better]


def _method_legend(methods: Sequence[str], *, line: bool) -> str:
    """The legend of all methods in their order."""
    return report_html.legend([(m, style(i)) for i, m in enumerate(methods)], line=line)
