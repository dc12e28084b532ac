"""The table of bootstrap intervals."""

import re

from calib_jax.evaluation import report_intervals

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
    html = report_intervals.intervals(results_of(RUN))
    assert "The number and its 80 % percentile interval" in html
    assert cells(html) == ["50.0 [40.0, 62.5]", "25.0 [20.0, 30.0]"]
    assert "&lt;a&gt;" in html and "<a>" not in html
    html = report_intervals.intervals(results_of(RUN, seeds=(0, 1)))
    assert "The number of the first seed and its 80 %" in html


def test_over_the_shifts():
    html = report_intervals.intervals(
        results_of(RUN | {"summary_intervals": {"ood_accuracy": [0.2, 0.3]}})
    )
    assert cells(html)[0] == "25.0 [20.0, 30.0]" and "mean OOD acc" in html


def test_nothing_without_intervals():
    assert report_intervals.intervals(results_of({**RUN, "intervals": {}})) == ""
