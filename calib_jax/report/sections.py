"""The sections of the report page, each a function of `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from calib_jax.metrics import catalogue
from calib_jax.metrics.metric import ARROWS, Quantity
from calib_jax.report import data, intervals, markup, selection, tables
from calib_jax.report.data import Stat
from calib_jax.report.markup import Cell, Row, escape, paragraph

Results = Mapping[str, Any]

_DETECTION = ("auroc", "fpr95_id_positive", "fpr95_ood_positive")
_PRECISION = ("aupr_id", "aupr_ood")
_LONG = 90  # characters beyond which a fact takes a row of its own
_UNSAID = "not said: they are what the config has"
_TILES = {
    "ood_accuracy": "Most accurate under shift",
    "ood_ece": "Best calibrated under shift",
    "near_auroc": "Best on near-OOD",
    "far_auroc": "Best on far-OOD",
}

_RELATIONS = {"ahead": "ahead of", "within_spread": "within the spread of", None: "next is"}


def _is_trained(results: Results) -> bool:
    """Whether a row of the table has steps of a training."""
    return any(run.get("num_steps") for run in results["runs"])


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
        "Hyper-parameters chosen on": results.get("tuned_on") or _UNSAID * _is_trained(results),
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
    leaders = results["page"]["leaders"]
    styles, several = selection.drawn(results), len(results["table"]) > 1
    tiles = "".join(
        _tile(results, key, leaders[key])
        for key, _, _ in columns
        if key in _TILES
        if key in leaders
    )
    rows = [
        Row(
            method,
            [Cell(tables.percent(s[i]), i in marked) for _, s, marked in columns],
            styles.get(method),
        )
        for i, method in enumerate(data.methods(results))
    ]
    headings = ["method", *(tables.heading(key) for key, _, _ in columns)]
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
    headings = ["method", *(data.quantity(results, key).heading for key in keys)]
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
    columns = [key for key in tables.columns(results) if key in tables.COLUMNS]
    rows = []
    for run in results["runs"]:
        found = [Stat(data.number(data.lookup(run, "summary", key))) for key in columns]
        seconds = run.get("train_seconds")
        training = [
            Cell(str(run.get("num_steps", tables.DASH))),
            Cell(duration(seconds), sort=data.number(seconds)),
        ]
        cells = [Cell(tables.percent(stat)) for stat in found] + training * trained
        rows.append(Row(f"{run['method']}, seed {run.get('seed')}", cells))
    headings = [*map(tables.heading, columns), *["steps", "training"] * trained]
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


def _tile(results: Results, key: str, leads: Mapping[str, Any]) -> str:
    """Who leads a column, by how much, and whether the lead exceeds the spread."""
    stats = {row["method"]: data.table_stat(row, key) for row in results["table"]}
    first, *_ = leaders = leads["methods"]
    if len(leaders) > 2:
        leaders = [*leaders[:2], f"{len(leaders) - 2} more"]
    text = f"{catalogue.of(key, catalogue.SUMMARY).title} {_unbroken(stats[first])}"
    if leads["next"] is not None:
        relation = _RELATIONS[leads["relation"]]
        text += f", {relation} {leads['next']} ({_unbroken(stats[leads['next']])})"
    return (
        f'<div class="tile"><span>{escape(_TILES[key])}</span>'
        f"<b>{escape(', '.join(leaders))}</b><span>{escape(text)}</span></div>"
    )


def _unbroken(value: Stat) -> str:
    """`81.2 ± 0.4 %` that stays on one line."""
    return f"{tables.percent(value)} %".replace(" ", "\N{NO-BREAK SPACE}")


def _detection_table(
    results: Results, dataset: str, scores: Sequence[str], keys: Sequence[str]
) -> str:
    """Blocks of methods x scores, one block a detection metric."""
    rows: list[Row] = []
    for key in keys:
        quantity = catalogue.of(key, catalogue.DETECTION)
        rows.append(Row(_block_title(key, quantity)))
        methods = data.methods(results)
        stats = [
            [data.over_seeds(results, m, "detection", dataset, s, key) for s in scores]
            for m in methods
        ]
        marked = tables.best([s for row in stats for s in row], quantity.direction)
        for i, row in enumerate(stats):
            cells = [
                Cell(tables.percent(s), i * len(scores) + k in marked) for k, s in enumerate(row)
            ]
            rows.append(Row(methods[i], cells, selection.drawn(results).get(methods[i])))
    return markup.table(["method", *map(tables.score_title, scores)], rows)


def _block_title(key: str, quantity: Quantity) -> str:
    """`FPR95 ↓, ID positive: what that means`; of the AUROC, what chance is."""
    if key == "auroc":
        return f"{quantity.heading} (50 is chance)"
    name, positive = quantity.title.split(", ")
    title = f"{name} {ARROWS[quantity.direction]}, {positive}"
    return f"{title}: {quantity.meaning}" if key in _DETECTION else title


def _metric_rows(
    results: Results, methods: Sequence[str], dataset: str, keys: Sequence[str]
) -> list[Row]:
    """The metrics of every method on one data set, the best of each column marked."""
    columns = []
    for key in keys:
        stats = [data.over_seeds(results, m, "metrics", dataset, key) for m in methods]
        quantity = data.quantity(results, key)
        marked = tables.best(stats, quantity.direction)
        columns.append([Cell(tables.shown(quantity, s), i in marked) for i, s in enumerate(stats)])
    styles = selection.drawn(results)
    return [Row(m, [c[i] for c in columns], styles.get(m)) for i, m in enumerate(methods)]
