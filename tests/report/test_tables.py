"""The results table as text: numbers, marks, escapes."""

import io
import math
import re

import pytest
import rich.console

from calib_jax.core.errors import DataError
from calib_jax.core.printing import one_line, say
from calib_jax.metrics import catalogue
from calib_jax.report import tables
from calib_jax.report.data import Stat

KEYS = tables.COLUMNS


def make_results(rows, seeds=(0, 1)):
    table = [
        {"method": method, **{k: {"mean": m, "std": s} for k in KEYS}} for method, m, s in rows
    ]
    return {
        "schema": 1,
        "title": "Digits",
        "num_bins": 15,
        "table_score": "mcm",
        "tuned_on": "validation",
        "seeds": list(seeds),
        "table": table,
        "runs": [{"method": row[0]} for row in rows],
        "datasets": {"id": "clean", "near": ["letters"]},
    }


def printed(results, width=80):
    console = rich.console.Console(file=io.StringIO(), width=width)
    console.print(tables.terminal_table(results))
    return console.file.getvalue()


def test_percent_and_metric_format():
    assert tables.percent(Stat(0.8123, 0.004)) == "81.2 ± 0.4"
    assert tables.percent(Stat(0.8123)) == "81.2"
    assert tables.percent(Stat(None)) == "–"
    assert tables.shown(catalogue.of("nll"), Stat(1.23456)) == "1.235"
    assert tables.shown(catalogue.of("accuracy"), Stat(1.0)) == "100.0"


def test_best_takes_the_better_side_with_visible_ties():
    stats = [Stat(0.5), Stat(0.8001), Stat(None), Stat(0.8004), Stat(0.2)]
    assert tables.best(stats, "higher") == {1, 3}
    assert tables.best(stats, "lower") == {4}
    assert tables.best(stats, "neither") == set()
    assert tables.best([Stat(None)], "higher") == set()
    # One number has nobody to be better than.
    assert tables.best([Stat(None), Stat(0.5)], "higher") == set()


def test_markdown_table():
    lines = tables.markdown_table(
        make_results([("a|b", 0.5, 0.01), ("carot", 0.75, 0.02)])
    ).splitlines()
    assert lines[0] == (
        "| method | ID acc ↑ | mean OOD acc ↑ | ID ECE ↓ | mean OOD ECE ↓ "
        "| near AUROC ↑ | far AUROC ↑ |"
    )
    low, high = "50.0 ± 1.0", "75.0 ± 2.0"
    assert lines[2] == f"| a\\|b | {low} | {low} | **{low}** | **{low}** | {low} | {low} |"
    assert lines[3] == (
        f"| carot | **{high}** | **{high}** | {high} | {high} | **{high}** | **{high}** |"
    )
    assert lines[5] == (
        "%; mean ± sample std over 2 seeds; ECE with 15 bins; "
        "AUROC of MCM, ID positive; tuned on validation"
    )


def test_terminal_table_fits_a_terminal():
    rows = [("zero-shot", 0.7, 0.01), ("fine-tuning", 0.9876, 0.04)]
    text = printed(make_results(rows))
    row = next(line for line in text.splitlines() if "fine-tuning" in line)
    assert row.split() == ["fine-tuning", *["98.8±4.0"] * 6]
    assert "Digits" in text and "tuned on validation" in text


def test_terminal_table_marks_the_best_in_bold():
    table = tables.terminal_table(make_results([("a", 0.5, None), ("b", 0.6, None)]))
    styles = [[str(cell.style) for cell in column.cells] for column in table.columns[1:]]
    assert styles[0] == ["", "bold"] and styles[2] == ["bold", ""]


def test_method_names_are_not_markup():
    assert "[red]x[/red]" in printed(make_results([("[red]x[/red]", 0.5, None)]), width=100)


def test_a_name_is_one_row():
    name = "two\nlines,\ta tab, \x1b \u202e \udc80"
    text = printed(make_results([(name, 0.5, None)]), width=200)
    assert "two lines, a tab, \\x1b \\u202e \\udc80 " in text


def test_missing_numbers_and_one_seed():
    results = make_results([("a", math.nan, None)], seeds=(0,))
    results["runs"][0]["num_steps"] = 0
    text = tables.markdown_table(results)
    assert "| a | – | – | – | – | – | – |" in text
    assert "one seed" in text and "±" not in text


def test_a_single_method_is_not_the_best():
    results = make_results([("a", 0.5, None)], seeds=(0,))
    assert "**" not in tables.markdown_table(results)
    columns = tables.terminal_table(results).columns
    assert not any(str(cell.style) for column in columns[1:] for cell in column.cells)


def test_predictions_from_files_have_no_seed():
    assert tables.note(make_results([("a", 0.5, None)], seeds=(0,))) == (
        "%; ECE with 15 bins; AUROC of MCM, ID positive; tuned on validation"
    )
    results = make_results([("a", 0.5, None)], seeds=(0,)) | {"datasets": {"id": "clean"}}
    assert tables.note(results) == "%; ECE with 15 bins; tuned on validation"


def test_columns_without_any_number_are_left_out():
    results = make_results([("a", 0.5, None)]) | {"table_score": ""}
    results["table"][0] |= dict.fromkeys(("near_auroc", "far_auroc"))
    text = tables.markdown_table(results)
    assert text.startswith("| method | ID acc ↑ | mean OOD acc ↑ | ID ECE ↓ | mean OOD ECE ↓ |\n")
    assert "AUROC" not in text and "AUROC" not in printed(results)


def test_a_single_shift_is_no_worst_one():
    results = make_results([("a", 0.5, None)])
    results["table"][0] |= {f"worst_shift_{key}": {"mean": 0.5} for key in ("accuracy", "ece")}
    for shifts, worst in ((["fog", "snow"], 2), (["fog"], 0)):
        results["datasets"]["shifts"] = shifts
        assert tables.markdown_table(results).count("worst") == worst


def test_wrong_results_are_refused():
    with pytest.raises(DataError, match="results: got schema None, expected 1"):
        tables.markdown_table({})
    with pytest.raises(DataError, match=r"results: got nothing under \['table', 'runs'"):
        tables.terminal_table({"schema": 1, "datasets": {"id": "clean"}})


def test_score_titles():
    titles = [tables.score_title(s) for s in ("mcm", "max_logit", None)]
    assert titles == ["MCM", "max logit", "–"]


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\rb", "[/red]", "[bold]x"])
def test_a_name_in_the_terminals_table_is_no_command_to_it(name):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    say(tables.terminal_table(make_results([(name, 0.5, None)]) | {"title": name}), file=stream)
    found = stream.buffer.getvalue().decode()
    assert found.count(one_line(name)) == 2
    assert not re.search("[\x00-\x08\x0b-\x1f]", found)
