"""Shift by shift: marks, tables and the curves between two models."""

import re

from calib_jax.report import shifts
from calib_jax.runs.page_record import with_page


def make_results(num_methods=2, **more):
    methods = [f"m{i}" for i in range(num_methods)]
    runs = [
        {
            "method": method,
            "seed": seed,
            "metrics": {
                "clean": {"accuracy": 0.9, "ece_15": 0.02},
                "fog": {"accuracy": 0.5 + 0.01 * i, "ece_15": 0.3 - 0.01 * i},
            },
        }
        for i, method in enumerate(methods)
        for seed in (0, 1)
    ]
    table = [
        {
            "method": method,
            "ood_accuracy": {"mean": 0.5 + 0.01 * i, "std": 0.01},
            "ood_ece": {"mean": 0.3 - 0.01 * i, "std": None},
        }
        for i, method in enumerate(methods)
    ]
    return {
        "table": table,
        "runs": runs,
        "seeds": [0, 1],
        "num_bins": 15,
        "datasets": {"id": "clean", "shifts": ["fog"]},
    } | more


def test_scatter_bars_and_tables():
    results = make_results()
    html = shifts.shifts(with_page(results))
    # Of one shift the methods are all there is to draw.
    assert html.count("<figure>") == 3 and "m1, fog" not in html and ">m1</text>" in html
    row = re.search(r"m0</th>(.*?)</tr>", html)[1]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["90.0", "50.0"]
    assert "A mark is a method, its mean over the seeds." in html
    assert "A mark is a method." in shifts.shifts(with_page(results | {"seeds": [0]}))
    results["datasets"]["shifts"].append("snow")
    for run in results["runs"]:
        run["metrics"]["snow"] = run["metrics"]["fog"]
    html = shifts.shifts(with_page(results))
    assert html.count("<figure>") == 4 and "<title>m1, snow</title>" in html


def test_effective_robustness_has_a_table_of_the_shifts_with_a_line():
    results = make_results()
    assert "robustness" not in shifts.shifts(with_page(results))
    for run in results["runs"]:
        run["metrics"]["fog"]["effective_robustness"] = 0.03
    html = shifts.shifts(with_page(results))
    table = html[html.index("<summary>Effective robustness</summary>") :]
    assert "beyond what the line of the baseline models" in table
    assert re.findall(r"<th scope=\"col\">(.*?)</th>", table) == ["method", "fog\N{NBSP}↑"]
    assert re.findall(r"<td[^>]*>(.*?)</td>", table)[0] == "3.0"


def test_of_many_methods_the_figures_have_some_and_the_tables_all():
    results = make_results(num_methods=12, datasets={"id": "clean", "shifts": ["fog", "snow"]})
    for run in results["runs"]:
        run["metrics"]["snow"] = run["metrics"]["fog"]
    html = shifts.shifts(with_page(results))
    assert "Drawn: 8 of 12 methods" in html
    assert html.count("<circle") == 12 + 2 * 8
    assert html.count(">m3</th>") == 2 and ">m3</text>" not in html


def test_the_shifts_of_a_single_method_have_their_names():
    results = make_results(num_methods=1)
    # A scatter of one mark tells nothing.
    assert "<circle" not in shifts.shifts(with_page(results))
    for run in results["runs"]:
        run["metrics"]["snow"] = {"accuracy": 0.4, "ece_15": 0.4}
    results["datasets"]["shifts"].append("snow")
    html = shifts.shifts(with_page(results))
    assert ">fog</text>" in html and "point at it" not in html and html.count("<circle") == 2
    assert "of the legend" not in html
    for run in results["runs"]:
        run["metrics"] |= {f"s{i}": {"accuracy": i / 20, "ece_15": 0.1} for i in range(19)}
    results["datasets"]["shifts"] += [f"s{i}" for i in range(19)]
    html = shifts.shifts(with_page(results))  # 21: too many for names
    assert "<title>fog</title>" in html and "point at it" in html
    assert shifts.shifts(with_page(results | {"datasets": {"id": "clean"}})) == ""


LINE = {"accuracy": [0.5, 0.6, 0.55], "ece_15": [0.2, 0.1, None]}


def curves(*splits, of=LINE):
    curve = {"alphas": [0.0, 0.5, 1.0], "splits": dict.fromkeys(splits, of)}
    return shifts.weight_curves(with_page(make_results(curves={"wise": curve})))


def names(html):
    return re.findall(r"</svg>(.*?)</li>", html), re.findall("<title>(.*?)</title>", html)


def test_curves_between_two_models():
    html = curves("clean", "fog", "<snow>")
    assert html.count("<figure>") == 2 and "<h3>wise: ECE, % ↓</h3>" in html
    assert "alpha: 0 pre-trained, 1 fine-tuned</text>" in html
    shown = ["fog", "&lt;snow&gt;", "mean over 2 shifts", "clean (ID)"]
    assert names(html) == (shown, 2 * shown)
    html = curves("clean", *(f"s{i}" for i in range(9)))
    common = ["mean over 9 shifts", "clean (ID)"]
    assert names(html)[0] == ["each of 9 shifts", *common]
    assert names(html)[1] == 2 * [*(f"s{i}" for i in range(9)), *common]


def test_a_line_runs_over_alpha_at_its_height():
    html = curves("clean", of={"accuracy": [0.5, 0.5, 0.5], "ece_15": [0.2, 0.1, 0.0]})
    figure = html.split("<figure>")[1]
    line = re.search(
        r'<title>clean.*?<path d="M ([\d.]+) ([\d.]+)\s+L ([\d.]+) ([\d.]+)', figure, re.S
    )
    assert line[1] != line[3] and line[2] == line[4]


def test_curves_of_what_there_is():
    assert shifts.weight_curves(with_page(make_results())) == "" and curves() == ""
    assert names(curves("fog"))[0] == ["fog"]
    assert names(curves("clean"))[0] == ["clean (ID)"]
