"""The sections of the report page, each a function of `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.report import data, intervals, markup, selection, tables
from calib_jax.report.data import Stat
from calib_jax.report.markup import Cell, Row, escape, paragraph

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
    """The title and what was run: data, seeds, device, wall time, conventions, where known."""
    datasets, environment = results["datasets"], results.get("environment") or {}
    listed = {key: ", ".join(datasets.get(key) or ()) for key in ("shifts", "near", "far")}
    sizes = "; ".join(f"{k}: {v}" for k, v in (datasets.get("num_examples") or {}).items())
    unknown, run_here = listed["near"] or listed["far"], not data.of_files(results)
    seeds = [str(seed) for seed in results.get("seeds") or () if run_here]
    score = tables.score_title(results.get("table_score"))
    facts = {
        "In-distribution (ID)": datasets["id"],
        f"Shifts ({len(datasets.get('shifts') or ())})": listed["shifts"],
        "Unknown classes, near": listed["near"],
        "Unknown classes, far": listed["far"],
        "Examples": sizes,
        "Seeds": ", ".join(seeds),
        "Hyper-parameters chosen on": results.get("tuned_on"),
        "Calibration error": f"{results.get('num_bins')} bins of equal width",
        "OOD score": f"{score}; higher = more in-distribution, ID is the positive class"
        * bool(unknown),
        "Device": device(environment) * run_here,
        "Wall time": duration(environment.get("wall_seconds")),
        "Software": f"calib_jax {results.get('calib_jax_version', '?')}, JAX "
        f"{environment.get('jax', '?')}, Python {environment.get('python', '?')}",
    }
    items = "".join(
        f"<div{' class=long' * (len(str(fact)) > _LONG)}>"
        f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>"
        for name, fact in facts.items()
        if fact and fact != tables.DASH
    )
    counts = {"method": len(results["table"]), "seed": len(seeds)}
    counts["shift"] = len(datasets.get("shifts") or ())
    who = "who" if len(results["table"]) > 1 else "whether it"
    lead = (
        ", ".join(_counted(number, noun) for noun, number in counts.items() if number)
        + f": {who} stays accurate, {who} knows how sure to be"
        + (f", and {who} notices what it has never seen." if unknown else ".")
    )
    title = escape(results.get("title") or results.get("name") or "Results")
    return f'<h1>{title}</h1>{paragraph(lead, kind="lead")}<dl class="facts">{items}</dl>'


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def outcome(results: Results) -> str:
    """The leaders and the results table, the best of each column marked."""
    columns = tables.summary(results, tables.columns(results))
    styles, several = selection.drawn(results), len(results["table"]) > 1
    tiles = "".join(_tile(results, *column) for column in columns if column[0].key in _TILES)
    rows = [
        Row(
            method,
            [Cell(tables.percent(s[i]), i in marked) for _, s, marked in columns],
            styles.get(method),
        )
        for i, method in enumerate(data.methods(results))
    ]
    headings = ["method", *(column.heading for column, _, _ in columns)]
    caption = f"In {tables.note(results)}. ↑ higher is better, ↓ lower is better."
    if several:
        caption += (
            " Bold on a tinted ground: best of the column, ties at the shown precision included. A "
            "click on the head of a column sorts by it."
        )
    return (
        f'<div class="tiles">{tiles}</div>' * bool(tiles)
        + markup.table(headings, rows, wide=True)
        + paragraph(caption)
        + intervals.short(results)
    )


def guide(results: Results) -> str:
    """How to read the numbers, in plain language."""
    score = tables.score_title(results.get("table_score"))
    spread = (
        "± is the sample standard deviation over the seeds; a lead smaller than that may be chance."
        if data.has_seeds(results)
        else "there is one seed, so nothing here says how much a number would vary with another."
        + " With other test examples: the intervals above." * bool(intervals.short(results))
    )
    auroc = (
        "show it one image of a known and one of an unknown class: how often does the known one "
        f"get the higher {score} score? 50 % is a coin toss."
    )
    points = {
        "Accuracy": "how many examples get the right class. ID: examples like those it was tuned "
        "on. OOD: the same classes under other conditions, as a plain mean over the shifts.",
        "ECE": "how far stated confidence is from reality. At an ECE of 10 % the model's "
        "confidence and its hit rate differ by ten points on average; 0 is perfect.",
        "AUROC": auroc,
        "Spread": spread,
    }
    if not data.out_of_distribution(results):
        del points["AUROC"]
    if data.of_files(results) and not data.has_seeds(results):
        del points["Spread"]
    items = "".join(f"<li><b>{k}</b>: {escape(text)}</li>" for k, text in points.items())
    return f"<h3>How to read this</h3><ul>{items}</ul>"


def detection(results: Results) -> str:
    """Every OOD score of every method on every set of unknown classes, both conventions named."""
    parts = ""
    for dataset in data.out_of_distribution(results):
        scores = data.names(results, "detection", dataset)
        if scores:
            shown = _detection_table(results, dataset, scores, _DETECTION)
            parts += (
                markup.folded(f"Scores on {dataset}", shown)
                if selection.remark(results)
                else f"<h3>{escape(dataset)}</h3>{shown}"
            )
            parts += markup.folded(
                f"Precision and recall on {dataset}",
                _detection_table(results, dataset, scores, _PRECISION),
            )
    if not parts:
        return ""
    spread = ", mean ± spread over the seeds" * data.has_seeds(results)
    return (
        paragraph(
            f"In %{spread}. Every score is turned so that higher means more in-distribution. The "
            "best method and score of each block is marked."
        )
        + parts
    )


def every_metric(results: Results) -> str:
    """Every metric on every labelled data set, then every run by itself (both folded)."""
    methods = data.methods(results)
    datasets = data.evaluated(results)
    keys = [
        key
        for key in dict.fromkeys(
            key for dataset in datasets for key in data.names(results, "metrics", dataset)
        )
        if any(
            data.number(data.lookup(run, "metrics", dataset, key)) is not None
            for run in results["runs"]
            for dataset in datasets
        )
    ]
    rows: list[Row] = []
    for dataset in datasets:
        rows.append(Row(dataset))
        rows.extend(_metric_rows(results, methods, dataset, keys))
    headings = ["method", *map(tables.metric_heading, keys)]
    note = paragraph(
        "In %, except NLL (nats), Brier and its parts (natural units): reliability of the "
        "confidence in the answer, the less the better, and resolution, the more the better."
    )
    return markup.folded(
        "Every metric on every data set", note + markup.table(headings, rows)
    ) + markup.folded("Every run", _every_run(results))


def _every_run(results: Results) -> str:
    """Every run by itself; nothing for predictions of one seed, where the results table says it."""
    trained = not data.of_files(results)
    if not trained and not data.has_seeds(results):
        return ""
    columns = [c for c in tables.columns(results) if c in tables.COLUMNS]
    rows = []
    for run in results["runs"]:
        found = [Stat(data.number(data.lookup(run, "summary", column.key))) for column in columns]
        seconds = run.get("train_seconds")
        training = [
            Cell(str(run.get("num_steps", tables.DASH))),
            Cell(duration(seconds), sort=data.number(seconds)),
        ]
        cells = [Cell(tables.percent(stat)) for stat in found] + training * trained
        rows.append(Row(f"{run['method']}, seed {run.get('seed')}", cells))
    headings = [column.heading for column in columns] + ["steps", "training"] * trained
    return markup.table(["run", *headings], rows)


def config(results: Results) -> str:
    """The whole configuration, folded."""
    text = json.dumps(results.get("config") or {}, indent=2, default=str, ensure_ascii=False)
    return markup.folded("Configuration", f'<pre tabindex="0">{escape(text)}</pre>')


def device(environment: Mapping[str, Any]) -> str:
    """What it ran on: `1 CPU`, `8 × NVIDIA H100`; a dash if unknown."""
    kind, number = environment.get("device_kind"), environment.get("num_devices")
    if not kind:
        return tables.DASH
    # JAX calls a processor "cpu", an accelerator by the name that its maker gave it.
    name = str(kind).upper() if str(kind).islower() else str(kind)
    return f"{number} × {name}" if number and number > 1 else f"1 {name}"


def duration(seconds: object) -> str:
    """A duration for people: `8.1 s`, `2 min 50 s`, `1 h 5 min`."""
    value = data.number(seconds)
    if value is None:
        return tables.DASH
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _tile(results: Results, column: tables.Column, stats: Sequence[Stat], marked: set[int]) -> str:
    """Who leads a column, by how much, and whether the lead exceeds the spread."""
    if not marked:
        return ""
    methods = data.methods(results)
    found = [(s.mean, i) for i, s in enumerate(stats) if s.mean is not None]
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
    return f"{tables.percent(value)} %".replace(" ", "\N{NO-BREAK SPACE}")


def _detection_table(
    results: Results, dataset: str, scores: Sequence[str], parts: Sequence[tuple[str, str]]
) -> str:
    """Blocks of methods x scores, one block a detection metric."""
    rows: list[Row] = []
    for key, title in parts:
        rows.append(Row(title))
        methods = data.methods(results)
        stats = [
            [data.over_seeds(results, m, "detection", dataset, s, key) for s in scores]
            for m in methods
        ]
        better = tables.higher_is_better(key)
        marked = tables.best([s for row in stats for s in row], higher_is_better=better)
        for i, row in enumerate(stats):
            cells = [
                Cell(tables.percent(s), i * len(scores) + k in marked) for k, s in enumerate(row)
            ]
            rows.append(Row(methods[i], cells, selection.drawn(results).get(methods[i])))
    return markup.table(["method", *map(tables.score_title, scores)], rows)


def _metric_rows(
    results: Results, methods: Sequence[str], dataset: str, keys: Sequence[str]
) -> list[Row]:
    """The metrics of every method on one data set, the best of each column marked."""
    columns = []
    for key in keys:
        stats = [data.over_seeds(results, m, "metrics", dataset, key) for m in methods]
        better = tables.higher_is_better(key)
        marked = tables.best(stats, higher_is_better=better)
        columns.append([Cell(tables.metric(key, s), i in marked) for i, s in enumerate(stats)])
    styles = selection.drawn(results)
    return [Row(m, [c[i] for c in columns], styles.get(m)) for i, m in enumerate(methods)]
