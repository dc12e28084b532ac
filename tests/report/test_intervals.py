"""The table of bootstrap intervals."""

import re

from calib_jax.report import intervals
from calib_jax.runs.page_record import with_page

RUN = {
    "method": "<a>",
    "seed": 0,
    "level": 0.8,
    "metrics": {"clean": {"accuracy": 0.5, "mce": 0.1}, "fog": {"accuracy": 0.25}},
    "intervals": {"clean": {"accuracy": [0.4, 0.625]}, "fog": {"accuracy": [0.2, 0.3]}},
    "summary": {"ood_accuracy": 0.25},
}


def results_of(run, seeds=(0,)):
    return {
        "table": [{"method": run["method"]}],
        "runs": [run],
        "seeds": list(seeds),
        "datasets": {"id": "clean", "shifts": ["fog"]},
    }


def cells(html):
    return re.findall(r"<td[^>]*>(.*?)</td>", html)


def test_numbers_with_their_ends_at_the_recorded_level():
    html = intervals.intervals(with_page(results_of(RUN)))
    assert "The number and its 80 % percentile interval" in html
    assert cells(html) == ["50.0 [40.0, 62.5]", "25.0 [20.0, 30.0]"]
    assert "&lt;a&gt;" in html and "<a>" not in html
    html = intervals.intervals(with_page(results_of(RUN, seeds=(0, 1))))
    assert "The number of the first seed and its 80 %" in html


def test_over_the_shifts():
    html = intervals.intervals(
        with_page(
            results_of(RUN | {"summary_intervals": {"ood_accuracy": [0.2, 0.3]}}, seeds=(0, 1))
        )
    )
    assert cells(html)[0] == "25.0 [20.0, 30.0]" and "mean OOD acc" in html


def test_of_one_seed_the_results_table_has_its_intervals():
    results = results_of(RUN | {"summary_intervals": {"ood_accuracy": [0.2, 0.3]}})
    html = intervals.short(with_page(results))
    assert "<h3>80 % intervals over test examples</h3>" in html and "<details" not in html
    assert re.findall(r"<th scope=\"col\">(.*?)</th>", html) == [
        "method",
        *("ID acc\N{NBSP}↑", "mean OOD acc\N{NBSP}↑"),
    ]
    assert cells(html) == ["50.0 [40.0, 62.5]", "25.0 [20.0, 30.0]"]
    # Once on the page.
    assert "mean OOD acc" not in intervals.intervals(with_page(results))
    assert intervals.short(with_page(results | {"seeds": [0, 1]})) == ""
    assert intervals.short(with_page(results_of({**RUN, "intervals": {}}))) == ""


def test_the_calibration_error_has_the_bins_of_the_table():
    ends = {"clean": {"ece_10": [0.1, 0.2], "ece_15": [0.3, 0.4]}}
    run = RUN | {"metrics": {"clean": {"ece_10": 0.15, "ece_15": 0.35}}, "intervals": ends}
    html = intervals.short(with_page(results_of(run) | {"num_bins": 15}))
    assert cells(html) == ["35.0 ± 5.0"] and "ID ECE" in html


def test_after_calibration_and_of_unknown_classes():
    numbers = {"auroc": 0.9, "fpr95_id_positive": 0.3}
    ends = {"auroc": [0.8, 0.95], "fpr95_id_positive": [0.2, 0.4]}
    run = RUN | {
        "calibrated": {
            "t_<x>": {
                "metrics": {"clean": {"nll": 1.25}, "fog": {"nll": 2.5}},
                "intervals": {"clean": {"nll": [1.0, 1.5]}, "fog": {}},
            },
            "none": {"metrics": {"clean": {"nll": 1.0}}},
        },
        "detection": {"svhn": {"mcm": numbers}},
        "detection_intervals": {"svhn": {"mcm": ends}},
        "summary": {"ood_accuracy": 0.25, "near_auroc": 0.9},
        "summary_intervals": {"near_auroc": [0.8, 0.95]},
    }
    results = results_of(run, seeds=(0, 1))
    results["datasets"]["near"] = ["svhn"]
    html = intervals.intervals(with_page(results))
    assert cells(html) == [
        "90.0 [80.0, 95.0]",
        *("50.0 [40.0, 62.5]", "25.0 [20.0, 30.0]"),
        *("1.250 [1.000, 1.500]", "2.500"),
        *("90.0 [80.0, 95.0]", "30.0 [20.0, 40.0]"),
    ]
    assert "<h3>After t &lt;x&gt;</h3>" in html and "After none" not in html
    assert "<h3>MCM</h3>" in html and "FPR95, ID positive" in html


def test_a_metric_of_shifts_alone_has_a_column():
    html = intervals.intervals(
        with_page(
            results_of(
                RUN
                | {
                    "metrics": {"clean": {"accuracy": 0.5}, "fog": {"effective_robustness": -0.02}},
                    "intervals": {
                        "clean": {"accuracy": [0.4, 0.625]},
                        "fog": {"effective_robustness": [-0.03, 0.01]},
                    },
                }
            )
        )
    )
    assert cells(html) == ["50.0 [40.0, 62.5]", "–", "–", "-2.0 [-3.0, 1.0]"]


def test_the_tables_say_that_methods_are_left_out():
    results = results_of(RUN | {"summary_intervals": {"ood_accuracy": [0.2, 0.3]}})
    results["table"] += [{"method": f"m{i}"} for i in range(11)]
    for html in (intervals.short(with_page(results)), intervals.intervals(with_page(results))):
        assert "Shown: 8 of 12 methods" in html and "; results.json has all." in html
        assert "the tables have all" not in html
    results["table"] = results["table"][:8]
    assert "Shown:" not in intervals.short(with_page(results)) + intervals.intervals(
        with_page(results)
    )


def test_nothing_without_intervals():
    assert intervals.intervals(with_page(results_of({**RUN, "intervals": {}}))) == ""
