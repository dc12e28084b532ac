"""Tables for other programs: they read back as what they were made of."""

import csv
import io

import pytest

from calib_jax.core.errors import DataError
from calib_jax.report import export, tables

KEYS = tables.COLUMNS
BAD = "a_b & 50% of {x}\\y|z\n<2>"


def make_results(**more):
    rows = [("zero", 0.5, None), (BAD, 1 / 3, 0.0123)]
    table = [
        {"method": method, **{k: {"mean": m, "std": s} for k in KEYS}} for method, m, s in rows
    ]
    table[0]["far_auroc"] = {"mean": None, "std": None}
    return {
        "schema": 1,
        "num_bins": 15,
        "table_score": "mcm",
        "tuned_on": "100% of\nvalidation",
        "seeds": [0, 1],
        "table": table,
        "runs": [{"method": "zero"}],
        "datasets": {"id": "clean"},
    } | more


def test_csv_reads_back_to_the_last_digit():
    rows = list(csv.DictReader(io.StringIO(export.csv_table(make_results()))))
    assert [row["method"] for row in rows] == ["zero", BAD]
    assert list(rows[0]) == ["method", *(f"{k}_{part}" for k in KEYS for part in ("mean", "std"))]
    assert float(rows[1]["ood_ece_mean"]) == 1 / 3 and float(rows[1]["ood_ece_std"]) == 0.0123
    assert rows[0]["ood_ece_std"] == rows[0]["far_auroc_mean"] == ""


def test_latex_is_booktabs_and_escaped():
    lines = export.latex_table(make_results()).splitlines()
    assert lines[0].startswith("% In %; mean ± sample std over 2 seeds")
    assert lines[0].endswith("tuned on 100% of validation")
    assert lines[2:4] == ["\\begin{tabular}{lrrrrrr}", "\\toprule"]
    assert lines[4].startswith(
        "method & ID acc $\\uparrow$ & mean OOD acc $\\uparrow$ & ID ECE $\\do"
    )
    assert lines[6].startswith("zero & \\textbf{50.0} & \\textbf{50.0} & 50.0 & ")
    assert lines[6].endswith(" & -- \\\\")
    name = r"a\_b \& 50\% of \{x\}\textbackslash{}y\textbar{}z \textless{}2\textgreater{}"
    assert lines[7].startswith(f"{name} & 33.3 $\\pm$ 1.2 & ")
    assert "\\textbf{33.3} $\\pm$ 1.2" in lines[7]
    assert lines[8:] == ["\\bottomrule", "\\end{tabular}"]
    assert all(line.count(" & ") == 6 for line in (lines[4], *lines[6:8]))


def test_optional_columns_appear_with_a_number():
    results = make_results()
    assert "worst" not in export.csv_table(results)
    results["table"][1]["worst_shift_ece"] = {"mean": 0.25, "std": 0.01}
    (first, second) = csv.DictReader(io.StringIO(export.csv_table(results)))
    assert (first["worst_shift_ece_mean"], second["worst_shift_ece_mean"]) == ("", "0.25")
    assert "worst OOD ECE $\\downarrow$" in export.latex_table(results)
    assert "| worst OOD ECE ↓ |" in tables.markdown_table(results)


def test_one_seed_has_no_spread_and_one_method_no_best():
    results = make_results(seeds=[0])
    del results["table"][1]
    assert export.csv_table(results).splitlines() == [
        "method,id_accuracy_mean,ood_accuracy_mean,id_ece_mean,ood_ece_mean,near_auroc_mean",
        "zero,0.5,0.5,0.5,0.5,0.5",
    ]
    assert "textbf" not in export.latex_table(results)


def test_files_of_one_and_of_several(tmp_path):
    results = make_results()
    export.write_tables(tmp_path, [("Digits", results)])
    texts = {suffix: (tmp_path / f"table.{suffix}") for suffix in ("md", "csv", "tex")}
    assert texts["csv"].read_text() == export.csv_table(results)
    assert texts["tex"].read_text() == export.latex_table(results)
    assert texts["md"].read_text() == tables.markdown_table(results)
    export.write_tables(tmp_path, [("A&B", results), ("A&B", results)])
    assert texts["csv"].read_text().count("A&B,zero,") == 2
    assert texts["tex"].read_text().count("\\multicolumn{7}{l}{\\textit{A\\&B}} \\\\") == 2
    assert texts["tex"].read_text().count("\\midrule") == 2
    assert texts["md"].read_text().count("## A&B\n\n| method |") == 2


@pytest.mark.parametrize("table", [export.csv_table, export.latex_table])
def test_wrong_results_are_refused(table):
    with pytest.raises(DataError, match="results: got schema None, expected 1"):
        table({})
