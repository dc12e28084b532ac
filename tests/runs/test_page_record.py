"""The numbers of the page: which are drawn, who leads, means against plain loops."""

import json

import numpy as np
import pytest

from calib_jax.report.selection import MAX_DRAWN
from calib_jax.runs.page_record import drawn_methods, leaders, with_page


def metrics(ece, nll):
    return {"accuracy": 0.5, "ece_15": ece, "nll": nll}


def run(method, seed, shift):
    sets = {s: {"coverage": 0.9 - shift, "mean_size": 2.0 + shift} for s in ("fog", "snow")}
    return {
        "method": method,
        "seed": seed,
        "metrics": {
            "clean": metrics(0.1, 1.0),
            "fog": metrics(0.2 + shift, 2.0),
            "snow": metrics(0.4, 3.0 + shift),
        },
        "calibrated": {
            "temperature": {
                "parameters": {"temperature": 1.0 + seed},
                "metrics": {"fog": metrics(0.1, 1.0), "snow": metrics(0.5, None)},
                "intervals": {"fog": {"nll": [0.5, 1.5]}},
            }
        },
        "conformal": {"alpha": 0.1, "aps": {"clean": {"coverage": 0.95, "mean_size": 1.0}, **sets}},
        "detection": {"svhn": {"mcm": {"auroc": 0.75 + shift}}},
        "intervals": {"clean": {"ece_15": [0.05, 0.25]}},
        "summary": {"id_ece": 0.1},
    }


def make_results():
    runs = [run("a", 0, 0.0), run("a", 1, 0.1), run("b", 0, 0.05)]
    table = [{"method": m, "id_ece": {"mean": 0.1, "std": None}} for m in "ab"]
    return {
        "table": table,
        "runs": runs,
        "seeds": [0, 1],
        "num_bins": 15,
        "datasets": {"id": "clean", "shifts": ["fog", "snow"], "near": ["svhn"]},
        "curves": {
            "a": {
                "alphas": [0, 1],
                "splits": {
                    "clean": {"accuracy": [0.9, 0.8]},
                    "snow": {"accuracy": [0.25, 0.75], "ece_15": [0.5, None]},
                    "fog": {"accuracy": [0.5, 0.25], "ece_15": [0.25, 0.5]},
                },
            }
        },
    }


def test_it_is_json_and_the_same_from_what_was_written():
    results = make_results()
    found = with_page(results)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    # An older file has none; a newer one gets the same.
    assert with_page(json.loads(json.dumps(found))) == found
    assert "page" not in results


def test_means_over_the_seeds():
    page = with_page(make_results())["page"]
    fog = page["means"]["a"]["metrics"]["fog"]["ece_15"]
    np.testing.assert_allclose([fog["mean"], fog["std"]], [0.25, np.std([0.2, 0.3], ddof=1)])
    assert page["means"]["b"]["metrics"]["fog"]["ece_15"] == {"mean": 0.25, "std": None}
    fitted = page["means"]["a"]["calibrated"]["temperature"]
    assert fitted["parameters"]["temperature"]["mean"] == 1.5
    assert "nll" not in fitted["metrics"]["snow"] and "intervals" not in fitted
    assert page["means"]["a"]["detection"]["svhn"]["mcm"]["auroc"]["mean"] == pytest.approx(0.8)


def test_means_over_the_shifts():
    page = with_page(make_results())["page"]
    raw, after = (page["over_shifts"]["a"][name] for name in ("raw", "temperature"))
    np.testing.assert_allclose(raw["ece_15"]["mean"], np.mean([0.3, 0.35]))
    np.testing.assert_allclose(raw["ece_15"]["std"], np.std([0.3, 0.35], ddof=1))
    np.testing.assert_allclose(raw["nll"]["mean"], np.mean([2.5, 2.55]))
    # A shift without the number: the mean would be of fewer.
    assert after["nll"]["mean"] is None and after["ece_15"]["mean"] == pytest.approx(0.3)
    sets = page["sets_over_shifts"]["a"]["aps"]
    np.testing.assert_allclose(
        [sets["coverage"], sets["worst_coverage"], sets["mean_size"]], [0.85, 0.85, 2.05]
    )
    assert page["curves"]["a"] == {"accuracy": [0.375, 0.5], "ece_15": [0.375, None]}


def test_whether_calibration_helps():
    fall = with_page(make_results())["page"]["calibration"]["temperature"]
    assert fall["num_methods"] == 2 and fall["does_not_fall"] == []
    np.testing.assert_allclose([fall["before"], fall["after"]], [(0.325 + 0.325) / 2, 0.3])


def test_half_the_width_of_the_first_seeds_interval():
    half = with_page(make_results())["page"]["half_widths"]
    assert half == {"a": {"id_ece": pytest.approx(0.1)}, "b": {"id_ece": pytest.approx(0.1)}}


def table_of(*rows):
    table = [{"method": m, "ood_accuracy": {"mean": mean, "std": std}} for m, mean, std in rows]
    return {"table": table}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("a", 0.8, 0.01), ("b", 0.9, 0.02)], (["b"], "a", "ahead")),
        ([("a", 0.89, 0.01), ("b", 0.9, 0.02)], (["b"], "a", "within_spread")),
        ([("a", 0.8, None), ("b", 0.9, None)], (["b"], "a", None)),
        ([("a", 0.9, None), ("b", 0.90001, None), ("c", 0.1, None)], (["b", "a"], "c", None)),
        ([("a", 0.9, None), ("b", 0.9, None)], (["a", "b"], None, None)),
    ],
)
def test_who_leads_and_how_surely(rows, found):
    leads = leaders(table_of(*rows))
    assert list(leads) == ["ood_accuracy"]
    assert tuple(leads["ood_accuracy"].values()) == found


def test_nobody_leads_without_a_contest():
    assert leaders(table_of(("a", 0.9, None))) == leaders(table_of(("a", None, None))) == {}


def test_many_without_numbers_are_still_as_many_as_fit():
    results = {"table": [{"method": f"m{i}"} for i in range(12)]}
    assert drawn_methods(results) == [f"m{i}" for i in range(MAX_DRAWN)]
