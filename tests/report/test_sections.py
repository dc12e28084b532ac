"""Sections: durations, leaders and what is said about their lead."""

import pytest

from calib_jax.report import sections
from calib_jax.runs.page_record import with_page


def make_results(*rows):
    table = [{"method": m, "ood_accuracy": {"mean": mean, "std": std}} for m, mean, std in rows]
    return {
        "table": table,
        "runs": [],
        "datasets": {"id": "clean"},
        "num_bins": 15,
        "seeds": [0, 1],
        "table_score": "mcm",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.14, "8.1 s"), (170.2, "2 min 50 s"), (3900, "1 h 5 min"), (None, "–"), (float("nan"), "–")],
)
def test_duration(seconds, text):
    assert sections.duration(seconds) == text


@pytest.mark.parametrize(
    ("rows", "leader", "relation"),
    [
        ([("a", 0.8, 0.01), ("b", 0.9, 0.02)], "b", "ahead of a"),
        ([("a", 0.89, 0.01), ("b", 0.9, 0.02)], "b", "within the spread of a"),
        ([("a", 0.8, None), ("b", 0.9, None)], "b", "next is a"),
        ([("a", 0.9, None), ("b", 0.90001, None), ("c", 0.1, None)], "b, a", "next is c"),
        ([("a", 0.9, None)] * 2 + [("b", 0.9, None)] * 2 + [("c", 0.1, None)], "a, a, 2 more", "c"),
    ],
)
def test_the_lead_is_called_what_it_is(rows, leader, relation):
    html = sections.outcome(with_page(make_results(*rows)))
    assert f"<b>{leader}</b>" in html and relation in html


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"num_devices": 1, "device_kind": "cpu", "platform": "cpu"}, "1 CPU"),
        ({"num_devices": 8, "device_kind": "NVIDIA H100", "platform": "gpu"}, "8 × NVIDIA H100"),
        ({"device_kind": "TPU v4"}, "1 TPU v4"),
        ({}, "–"),
    ],
)
def test_device(environment, text):
    assert sections.device(environment) == text


def test_what_is_known_of_the_spread():
    results = make_results(("a", 0.5, None))
    assert "± is the sample standard deviation" in sections.guide(with_page(results))
    one = results | {"seeds": [0], "runs": [{"method": "a", "seed": 0, "num_steps": 0}]}
    html = sections.guide(with_page(one))
    assert "one seed, so nothing here says how much a number would vary with another." in html
    assert "intervals above" not in html
    run = one["runs"][0] | {"intervals": {"clean": {"accuracy": [0.25, 0.75]}}}
    results = one | {"runs": [run]}
    results["table"][0]["id_accuracy"] = {"mean": 0.5}
    assert "With other test examples: the intervals above." in sections.guide(with_page(results))
    html = sections.outcome(with_page(results))
    assert html.index("In %; one seed") < html.index("95 % intervals over test examples")


def test_a_spread_is_explained_where_there_are_seeds():
    results = make_results(("a", 0.5, None))
    results["datasets"]["near"] = ["other"]
    results["runs"] = [{"method": "a", "detection": {"other": {"energy": {"auroc": 0.9}}}}]
    assert "In %, mean ± spread over the seeds. Every" in sections.detection(with_page(results))
    assert "In %. Every score" in sections.detection(with_page(results | {"seeds": [0]}))


def test_a_single_method_leads_nobody():
    html = sections.outcome(with_page(make_results(("a", 0.5, None))))
    assert not any(word in html for word in ("tile", "best", "Bold"))


def test_a_table_has_no_column_of_dashes():
    results = make_results(("a", 0.5, None), ("b", 0.6, None))
    numbers = {"accuracy": 0.5, "nll": None}
    results["runs"] = [{"method": m, "seed": 0, "metrics": {"clean": numbers}} for m in "ab"]
    html = sections.every_metric(with_page(results))
    assert ">accuracy ↑</th>" in html and ">NLL" not in html and ">steps<" not in html
    assert "Every run" in html
    assert "Every run" not in sections.every_metric(with_page(results | {"seeds": [0]}))


def test_no_leader_without_numbers():
    assert 'class="tile"' not in sections.outcome(with_page(make_results(("a", None, None))))


def test_sections_without_data_are_empty():
    results = make_results(("a", 0.5, None))
    assert sections.detection(with_page(results)) == ""


def test_both_conventions_of_fpr95_are_named_and_filled():
    results = make_results(("a", 0.5, None))
    results["datasets"]["near"] = ["other"]
    numbers = {
        "auroc": 0.91,
        "fpr95_id_positive": 0.23,
        "fpr95_ood_positive": 0.34,
        "aupr_id": 0.45,
        "aupr_ood": 0.56,
    }
    results["runs"] = [{"method": "a", "detection": {"other": {"energy": numbers}}}]
    html = sections.detection(with_page(results))
    for text in (
        "FPR95 ↓, ID positive",
        "FPR95 ↓, OOD positive",
        "AUPR ↑, ID positive",
        *(f">{100 * value:.1f}<" for value in numbers.values()),
    ):
        assert text in html


def test_configuration_is_shown_whole():
    results = make_results(("a", 0.5, None)) | {"config": {"a": {"b<": [1, None]}}}
    assert "&quot;b&lt;&quot;" in sections.config(results)
