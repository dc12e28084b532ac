"""Pooled bins and curves against plain loops."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from calib_jax.core.errors import DataError
from calib_jax.evaluation import split_metrics
from calib_jax.metrics.outcomes import of_logits
from calib_jax.runs import page_curves

EDGES = [0.0, 0.5, 1.0]


def results_with(*reliability):
    runs = [{"method": "a", "seed": i, "reliability": r} for i, r in enumerate(reliability)]
    return {"schema": 1, "table": [{"method": "a"}], "datasets": {"id": "clean"}, "runs": runs}


def bins(count, confidence, accuracy, edges=EDGES):
    return {"edges": edges, "count": count, "confidence": confidence, "accuracy": accuracy}


def test_pooled_bins_are_those_of_all_examples_together():
    rng = np.random.default_rng(0)
    runs, everything = [], []
    for _ in range(3):
        run = {}
        for dataset in ("x", "y"):
            confidence, right = rng.random(50) * 0.9 + 0.1, rng.random(50) < 0.6
            everything += list(zip(confidence, right, strict=True))
            high = confidence > 0.5
            run[dataset] = bins(
                [int((~high).sum()), int(high.sum())],
                [float(confidence[~high].mean()), float(confidence[high].mean())],
                [float(right[~high].mean()), float(right[high].mean())],
            )
        runs.append(run)
    pooled = page_curves.pooled_reliability(results_with(*runs), "a", ["x", "y"])
    ece = 0.0
    for k, inside in enumerate((lambda c: c <= 0.5, lambda c: c > 0.5)):
        members = [(c, r) for c, r in everything if inside(c)]
        confidence = statistics.mean(c for c, _ in members)
        accuracy = statistics.mean(float(r) for _, r in members)
        ece += len(members) / len(everything) * abs(confidence - accuracy)
        np.testing.assert_allclose(pooled["count"][k], len(members))
        np.testing.assert_allclose(pooled["confidence"][k], confidence, rtol=1e-12)
        np.testing.assert_allclose(pooled["accuracy"][k], accuracy, rtol=1e-12)
    np.testing.assert_allclose(pooled["ece"], ece, rtol=1e-12)


def test_empty_bins_stay_empty_and_do_not_count():
    results = results_with({"x": bins([0, 4], [None, 0.9], [None, 0.5])})
    pooled = page_curves.pooled_reliability(results, "a", ["x", "absent"])
    assert pooled["accuracy"][0] is None
    assert pooled["ece"] == pytest.approx(0.4)
    empty = results_with({"x": bins([0, 0], [None, None], [None, None])})
    assert page_curves.pooled_reliability(empty, "a", ["x"]) is None
    assert page_curves.pooled_reliability(results, "b", ["x"]) is None


def test_bins_with_other_edges_are_refused():
    other = bins([1, 1], [0.2, 0.8], [0, 1], edges=[0.0, 0.4, 1.0])
    results = results_with({"x": bins([1, 1], [0.2, 0.8], [0, 1]), "y": other})
    with pytest.raises(DataError, match="reliability of a on y: got other bin edges"):
        page_curves.pooled_reliability(results, "a", ["x", "y"])


def record(step, loss, seed=0, phase="a", **terms):
    return {"phase": phase, "seed": seed, "step": step, "loss": loss, "terms": terms}


def test_curve_is_mean_and_range_over_seeds():
    history = [
        record(0, 1.0),
        record(0, 3.0, seed=1),
        record(5, 0.5),
        record(5, math.nan, seed=1),
        record(0, 99.0, phase="b"),
    ]
    curve = page_curves.curve(history, "a", "loss")
    np.testing.assert_array_equal(curve["x"], [0, 5])
    np.testing.assert_array_equal(curve["mean"], [2.0, 0.5])
    np.testing.assert_array_equal(curve["low"], [1.0, 0.5])
    np.testing.assert_array_equal(curve["high"], [3.0, 0.5])
    assert page_curves.curve(history, "c", "loss") is None


def test_a_step_logged_again_after_a_restart_counts_once():
    history = [record(5, 1.0), record(10, 9.0), record(10, 2.0)]
    np.testing.assert_array_equal(page_curves.curve(history, "a", "loss")["mean"], [1.0, 2.0])


def test_long_curves_are_averaged_down():
    history = [record(step, float(step)) for step in range(1000)]
    curve = page_curves.curve(history, "a", "loss")
    assert len(curve["x"]) == page_curves.MAX_CURVE_POINTS
    np.testing.assert_allclose(curve["mean"][0], 2.0)
    assert (curve["low"][0], curve["high"][-1]) == (0.0, 999.0)
    np.testing.assert_allclose(np.mean(curve["mean"]), 499.5)


def test_phases_and_terms_keep_their_order():
    history = [record(0, 1, phase="pretrain", c=1.0), record(0, 1, b=1.0), record(1, 1, a=1.0)]
    assert list(page_curves.training(history)["phases"]) == ["pretrain", "a"]
    assert page_curves.training(history)["terms"] == ["c", "b", "a"]
    assert page_curves.term_names(history, "a") == ["b", "a"]


def test_spectrum_is_sorted_and_cut_to_the_shortest_run():
    results = results_with({}, {})
    assert page_curves.spectrum(results, "a") is None
    results["runs"][0]["spectrum"] = {"singular_values": [1.0, 3.0, 2.0]}
    results["runs"][1]["spectrum"] = {"singular_values": [5.0, 4.0]}
    curve = page_curves.spectrum(results, "a")
    np.testing.assert_array_equal(curve["x"], [1, 2])
    np.testing.assert_array_equal(curve["mean"], [4.0, 3.0])


@pytest.mark.parametrize(
    ("count", "right", "level"), [(1, 1, 0.95), (7, 0, 0.95), (300, 123, 0.95), (300, 123, 0.5)]
)
def test_accuracy_interval_is_wilsons(count, right, level):
    one = bins([0, count], [None, 0.7], [None, right / count])
    results = results_with(*[{"x": one}] * 3)
    for run in results["runs"]:
        run["level"] = level
    found = page_curves.pooled_reliability(results, "a", ["x"])
    # Of the examples, not of their three repeats.
    oracle = stats.binomtest(right, count).proportion_ci(level, method="wilson")
    ends = [found["accuracy_low"][1], found["accuracy_high"][1]]
    np.testing.assert_allclose(ends, [oracle.low, oracle.high], atol=1e-12)
    assert found["accuracy_low"][0] is None and found["accuracy_high"][0] is None
    assert found["count"] == [0, 3 * count] and found["share"] == [0, 1]


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_of_one_split_is_the_recorded_one(level):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((90, 4)), rng.integers(0, 4, 90)
    recorded = split_metrics.reliability(
        of_logits(logits, labels, num_bins=5), num_bins=5, level=level
    )
    results = results_with({"x": recorded})
    results["runs"][0]["level"] = level
    pooled = page_curves.pooled_reliability(results, "a", ["x"])
    for end in ("accuracy_low", "accuracy_high"):
        got, want = (np.array(of[end], np.float64) for of in (pooled, recorded))
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_risk_coverage_is_a_mean_over_data_sets_then_seeds():
    def run(seed, *risks):
        points = {
            f"s{k}": {"coverage": [0.5, 1.0], "risk": [risk / 2, risk]}
            for k, risk in enumerate(risks)
        }
        return {"method": "a", "seed": seed, "selective": points}

    results = {"runs": [run(0, 0.2, 0.4), run(1, 0.6), {"method": "b"}]}
    curve = page_curves.risk_coverage(results, "a", ["s0", "s1"])
    assert curve["x"][-1] == 1 and 0.04 < curve["x"][0] <= 0.05
    np.testing.assert_allclose(
        [curve["mean"][-1], curve["low"][-1], curve["high"][-1]], [0.45, 0.3, 0.6]
    )
    np.testing.assert_allclose(curve["mean"][0], 0.225)  # below the first point: its risk
    assert page_curves.risk_coverage(results, "b", ["s0"]) is None


def test_the_end_of_the_spectrum():
    results = {"runs": [{"method": "a", "spectrum": {"singular_values": [3.0, 2.0, 1.0]}}]}
    curve = page_curves.spectrum(results, "a", last=2)
    assert curve["x"] == [2, 3] and curve["mean"] == [2, 1]
