"""The text and the tables of a study, before they become HTML or Markdown.

Differences are in percentage points: `✓ +2.1 [+0.4, +3.8]` is a mean with its 95 % interval, ✓
where the whole interval is an improvement, ✗ where it is a loss, nothing where it contains 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from calib_jax.report import data, tables
from calib_jax.report import published as papers
from calib_jax.report.comparison import ACCURACY, CALIBRATION, Difference, verdict
from calib_jax.report.data import Stat
from calib_jax.report.figures import style
from calib_jax.report.markup import Cell, Row
from calib_jax.report.sections import device, duration
from calib_jax.report.tables import COLUMNS, DASH, percent

Experiment = Mapping[str, Any]

_MARKS = {"better": "✓ ", "worse": "✗ ", "undecided": ""}
_MAY_BE = {True: "yes", False: "no", None: DASH}
_VERDICTS = {"holds": "✓ holds", "reversed": "✗ reversed", "undecided": "undecided"}
_LEADERS = {ACCURACY: "Most accurate under shift", CALIBRATION: "Best calibrated under shift"}
_HOW_TO_READ_DIFFERENCES = (
    "Percentage points, same seed minus same seed: mean [95 % interval of Student's t]. ✓ the "
    "whole interval is an improvement, ✗ a loss, no mark: it contains 0. The intervals speak of "
    "other seeds, not of other test images, and are not corrected for their number: of twenty "
    "without any difference one gets a mark by chance. Both: a better mean in OOD accuracy and in "
    "OOD ECE; ✓ if both have the mark."
)


class Passage(NamedTuple):
    """A heading, a table, a list and a note, in this order; what is empty is left out."""

    title: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    points: Sequence[str] = ()
    note: str = ""
    folded: bool = False


def sections(study: Mapping[str, Any]) -> list[tuple[str, list[Passage]]]:
    """The sections in their order: the outcome, each experiment, the papers' numbers."""
    experiments = study["experiments"]
    return [
        ("In short", [*(_outcome(study, e) for e in experiments.values()), _ran(experiments)]),
        *((_title(e), _experiment(e)) for e in experiments.values()),
        *([(papers.TITLE, [_published(study["published"])])] if study["published"] else []),
    ]


def difference(value: Difference, key: str) -> str:
    """`✓ +2.1 [+0.4, +3.8]` in percentage points; a dash where the difference is unknown."""
    if value["mean"] is None:
        return DASH
    text = f"{_MARKS[verdict(value, key)]}{100 * value['mean']:+z.1f}"
    if value["low"] is not None:
        text += f" [{100 * value['low']:+z.1f}, {100 * value['high']:+z.1f}]"
    return text


def _title(experiment: Experiment) -> str:
    return str(experiment["title"] or experiment["name"])


def _outcome(study: Mapping[str, Any], experiment: Experiment) -> Passage:
    """The answers in words."""
    points = []
    for key, text in _LEADERS.items():
        leaders = experiment["leaders"][key]
        if leaders:
            value = percent(data.table_stat(_row(experiment, leaders[0]), key))
            rest = f"; not told apart from it: {', '.join(leaders[1:])}" if leaders[1:] else ""
            if len(experiment["seeds"]) == 1:
                rest = "; one seed has no interval to tell others apart from it"
            points.append(f"{text}: {leaders[0]} ({value} %){rest}.")
    points += [_order_in_words(experiment["order"]), _calibrated(study, experiment)]
    better, certain = experiment["better"]["beats"], experiment["better"]["certain"]
    rivals = [name for name in study["baselines"] if name in study["calibrated"]]
    if rivals:
        points.append(
            f"Better than each of {', '.join(rivals)} in OOD accuracy and OOD ECE at once "
            "(✓: by both whole intervals): "
            + (", ".join(f"{m} (✓)" if m in certain else m for m in better) or "none")
            + "."
        )
    return Passage(_title(experiment), points=[point for point in points if point])


def _row(experiment: Experiment, method: str) -> Mapping[str, Any]:
    return next(row for row in experiment["table"] if row["method"] == method)


def _order_in_words(order: Mapping[str, Any]) -> str:
    """How many neighbours of the published order hold."""
    if not order["pairs"]:
        return ""
    counts = ", ".join(f"{word} {order['counts'][word]}" for word in _VERDICTS)
    return (
        f"Published order in OOD accuracy ({' < '.join(row['method'] for row in order['means'])}):"
        f" of {len(order['pairs'])} steps: {counts}; Kendall's tau {_tau(order)}."
    )


def _tau(order: Mapping[str, Any]) -> str:
    return DASH if order["kendall_tau"] is None else f"{order['kendall_tau']:+z.2f}"


def _calibrated(study: Mapping[str, Any], experiment: Experiment) -> str:
    """Where the methods that are published as best calibrated come out."""
    ranks = {row["method"]: row for row in experiment["ranking"]}
    found = [
        f"{method} is number {ranks[method]['rank']}"
        + (" and may be the best" if ranks[method]["may_be_best"] else "")
        for method in study["calibrated"]
        if method in ranks
    ]
    return f"OOD ECE, of {len(ranks)} methods: {'; '.join(found)}." if found else ""


def _ran(experiments: Mapping[str, Experiment]) -> Passage:
    columns = ("experiment", "methods", "seeds", "shifts", "device", "JAX", "command")
    rows = []
    for experiment in experiments.values():
        environment = experiment["environment"] or {}
        cells = (
            str(len(experiment["table"])),
            ", ".join(map(str, experiment["seeds"] or ())) or DASH,
            str(len(experiment["datasets"].get("shifts") or ())),
            device(environment),
            str(environment.get("jax", DASH)),
            duration(environment.get("wall_seconds")),
        )
        rows.append(Row(_title(experiment), [Cell(text) for text in cells]))
    note = "Command: wall time of the last command; what an earlier one had finished is not in it."
    return Passage("What ran", columns, rows, note=note)


def _experiment(experiment: Experiment) -> list[Passage]:
    blocks = [
        _results(experiment),
        *(_paired(experiment, baseline) for baseline in experiment["paired"]),
        _order(experiment),
        _ranking(experiment),
        _tuning(experiment),
        _data(experiment),
    ]
    return [block for block in blocks if block.rows or block.points]


def _columns(experiment: Experiment) -> list[str]:
    """The columns in which any method has a number."""
    return [
        key
        for key in COLUMNS
        if any(data.table_stat(row, key).mean is not None for row in experiment["table"])
    ]


def _styles(experiment: Experiment) -> dict[str, Any]:
    """How each method is drawn, the same in every table and figure of the experiment."""
    return {row["method"]: style(i) for i, row in enumerate(experiment["table"])}


def _results(experiment: Experiment) -> Passage:
    shown = _columns(experiment)
    columns = [item for item in tables.summary(experiment) if item[0] in shown]
    rows = [
        Row(method, [Cell(percent(stats[i]), i in best) for _, stats, best in columns], of)
        for i, (method, of) in enumerate(_styles(experiment).items())
    ]
    headings = ["method", *map(tables.heading, shown)]
    note = f"In {tables.note(experiment)}. Best of each column in bold, visible ties too."
    return Passage("Results", headings, rows, note=note)


def _paired(experiment: Experiment, baseline: str) -> Passage:
    columns, styles = _columns(experiment), _styles(experiment)
    rows = []
    for row in experiment["paired"][baseline]:
        cells = [
            Cell(difference(row[key], key), verdict(row[key], key) == "better") for key in columns
        ]
        both = "✓ yes" if row["certain"] else "yes" if row["beats"] else "no"
        rows.append(Row(row["method"], [Cell(both), *cells], styles[row["method"]]))
    first = baseline == next(iter(experiment["paired"]))
    note = _HOW_TO_READ_DIFFERENCES if first else ""
    headings = ["method", "both", *map(tables.heading, columns)]
    return Passage(f"Difference to {baseline}", headings, rows, note=note, folded=not first)


def _order(experiment: Experiment) -> Passage:
    order = experiment["order"]
    means = {row["method"]: percent(Stat(row["mean"], row["std"])) for row in order["means"]}
    rows = [
        Row(
            f"{pair['worse']} < {pair['better']}",
            [
                Cell(means[pair["worse"]]),
                Cell(means[pair["better"]]),
                Cell(difference(pair["difference"], order["key"])),
                Cell(_VERDICTS[pair["verdict"]]),
            ],
        )
        for pair in order["pairs"]
    ]
    if not rows:
        return Passage()
    note = (
        f"Kendall's tau between the published order and ours: {_tau(order)} (1: the same, -1: "
        "reversed). Undecided: the interval contains 0, or there is only one seed."
    )
    if order["missing"]:
        note += f" Not run: {', '.join(order['missing'])}."
    columns = ("published order", "lower", "higher", "difference", "here")
    return Passage("The published order in OOD accuracy", columns, rows, note=note)


def _ranking(experiment: Experiment) -> Passage:
    styles = _styles(experiment)
    rows = [
        Row(
            f"{row['rank']}. {row['method']}",
            [
                Cell(percent(Stat(row["mean"], row["std"]))),
                Cell(difference(row["difference"], CALIBRATION) if i else DASH),
                Cell(_MAY_BE[row["may_be_best"]], bool(row["may_be_best"])),
            ],
            styles[row["method"]],
        )
        for i, row in enumerate(experiment["ranking"])
    ]
    columns = ("rank", "mean OOD ECE ↓", "difference to the first", "may be best")
    note = "May be best: the interval of the difference to the first does not exclude 0; "
    note += f"{DASH}: there is no interval."
    return Passage("Ranking by OOD ECE", columns, rows, note=note)


def _tuning(experiment: Experiment) -> Passage:
    rows = []
    for method, record in experiment["tuning"].items():
        scores = {trial["name"]: trial["score"] for trial in record["trials"]}
        low, high = record["lowest"], record["highest"]
        spread = DASH if low is None else f"{low:.4g} to {high:.4g}"
        if record["num_failed"]:
            spread += f", {record['num_failed']} broke down"
        chosen = scores[record["chosen"]]
        cells = (
            str(record["chosen"]),
            str(len(record["trials"])),
            str(record["metric"]),
            DASH if chosen is None else f"{chosen:.4g}",
            spread,
        )
        rows.append(Row(method, [Cell(text) for text in cells]))
    columns = ("method", "chosen", "trials", "chosen by", "its score", "scores of all trials")
    budgets = sorted({len(record["trials"]) for record in experiment["tuning"].values()})
    note = f"Chosen on: {experiment['tuned_on'] or DASH}. Trials a method: "
    note += ", ".join(map(str, budgets)) + (" for each." if len(budgets) == 1 else ": unequal.")
    return Passage("Hyper-parameters", columns, rows, note=note, folded=True)


def _data(experiment: Experiment) -> Passage:
    datasets = experiment["datasets"]
    sizes = datasets.get("num_examples") or {}
    points = []
    for key, title in (
        ("id", "In-distribution"),
        ("shifts", "Shifts"),
        ("near", "Unknown classes, near"),
        ("far", "Unknown classes, far"),
    ):
        names = [datasets[key]] if key == "id" else datasets.get(key) or ()
        if names:
            counted = (f"{name} ({sizes[name]})" if name in sizes else name for name in names)
            points.append(f"{title}: {', '.join(counted)}.")
    return Passage("Test images", points=points, folded=True)


def _published(rows: Sequence[Mapping[str, Any]]) -> Passage:
    """The papers' table, with the source of each row."""
    columns = ("method", "ID acc ↑", "mean OOD acc ↑", "mean OOD ECE (per batch) ↓", "source")
    shown = [
        Row(
            row["method"],
            [
                Cell(f"{100 * row['id_accuracy']:.2f}"),
                Cell(f"{100 * row['ood_accuracy']:.2f}"),
                Cell(f"{100 * row['ood_ece']:.1f}"),
                Cell(row["source"]),
            ],
        )
        for row in rows
    ]
    return Passage("", columns, shown, note=f"In %. {papers.NOTE}")
