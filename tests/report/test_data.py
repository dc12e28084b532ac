"""Means over seeds, pooled bins and curves against plain loops."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from calib_jax.core.errors import DataError
from calib_jax.evaluation import split_metrics
from calib_jax.metrics.outcomes import of_logits
from calib_jax.report import data
from calib_jax.report.data import Reliability

EDGES = [0.0, 0.5, 1.0]


def bins(count, confidence, accuracy, edges=EDGES):
    return {"edges": edges, "count": count, "confidence": confidence, "accuracy": accuracy}


def results_with(*reliability):
    runs = [{"method": "a", "seed": i, "reliability": r} for i, r in enumerate(reliability)]
    return {"schema": 1, "table": [{"method": "a"}], "datasets": {"id": "clean"}, "runs": runs}


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "1", True, [1], {}])
def test_what_is_not_a_finite_number_is_missing(value):
    assert data.number(value) is None


@pytest.mark.parametrize("value", [1, 1.5, np.float32(0.5), np.int64(3), np.float64(-2)])
def test_every_kind_of_number_is_read(value):
    assert data.number(value) == float(value)


def test_stat_is_mean_and_sample_deviation_of_what_is_there():
    values = [0.1, 0.4, 0.35]
    mean, std = data.stat([*values, None, math.nan])
    assert mean == pytest.approx(statistics.mean(values))
    assert std == pytest.approx(statistics.stdev(values))
    assert data.stat([0.3]) == (0.3, None)
    assert data.stat([None]) == (None, None)


def test_lookup_stops_at_the_first_gap():
    tree = {"a": {"b": 0}, "c": None}
    assert data.lookup(tree, "a", "b") == 0
    assert data.lookup(tree, "c", "b") is None
    assert data.lookup(tree, "x", "b") is None


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
    pooled = data.pooled_reliability(results_with(*runs), "a", ["x", "y"])
    ece = 0.0
    for k, inside in enumerate((lambda c: c <= 0.5, lambda c: c > 0.5)):
        members = [(c, r) for c, r in everything if inside(c)]
        confidence = statistics.mean(c for c, _ in members)
        accuracy = statistics.mean(float(r) for _, r in members)
        ece += len(members) / len(everything) * abs(confidence - accuracy)
        np.testing.assert_allclose(pooled.count[k], len(members))
        np.testing.assert_allclose(pooled.confidence[k], confidence, rtol=1e-12)
        np.testing.assert_allclose(pooled.accuracy[k], accuracy, rtol=1e-12)
    np.testing.assert_allclose(pooled.expected_calibration_error(), ece, rtol=1e-12)


def test_empty_bins_stay_empty_and_do_not_count():
    results = results_with({"x": bins([0, 4], [None, 0.9], [None, 0.5])})
    pooled = data.pooled_reliability(results, "a", ["x", "absent"])
    assert math.isnan(pooled.accuracy[0])
    assert pooled.expected_calibration_error() == pytest.approx(0.4)
    empty = results_with({"x": bins([0, 0], [None, None], [None, None])})
    assert data.pooled_reliability(empty, "a", ["x"]) is None
    assert data.pooled_reliability(results, "b", ["x"]) is None


def test_bins_with_other_edges_are_refused():
    other = bins([1, 1], [0.2, 0.8], [0, 1], edges=[0.0, 0.4, 1.0])
    results = results_with({"x": bins([1, 1], [0.2, 0.8], [0, 1]), "y": other})
    with pytest.raises(DataError, match="reliability of a on y: got other bin edges"):
        data.pooled_reliability(results, "a", ["x", "y"])


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
    curve = data.curve(history, "a", "loss")
    np.testing.assert_array_equal(curve.x, [0, 5])
    np.testing.assert_array_equal(curve.mean, [2.0, 0.5])
    np.testing.assert_array_equal(curve.low, [1.0, 0.5])
    np.testing.assert_array_equal(curve.high, [3.0, 0.5])
    assert data.curve(history, "c", "loss") is None


def test_a_step_logged_again_after_a_restart_counts_once():
    history = [record(5, 1.0), record(10, 9.0), record(10, 2.0)]
    np.testing.assert_array_equal(data.curve(history, "a", "loss").mean, [1.0, 2.0])


def test_long_curves_are_averaged_down():
    history = [record(step, float(step)) for step in range(1000)]
    curve = data.curve(history, "a", "loss")
    assert len(curve.x) == data.MAX_CURVE_POINTS
    np.testing.assert_allclose(curve.mean[0], 2.0)
    assert (curve.low[0], curve.high[-1]) == (0.0, 999.0)
    np.testing.assert_allclose(curve.mean.mean(), 499.5)


def test_phases_and_terms_keep_their_order():
    history = [record(0, 1, phase="pretrain", c=1.0), record(0, 1, b=1.0), record(1, 1, a=1.0)]
    assert data.phases(history) == ["pretrain", "a"]
    assert data.terms(history) == ["c", "b", "a"]
    assert data.terms(history, "a") == ["b", "a"]


def test_spectrum_is_sorted_and_cut_to_the_shortest_run():
    results = results_with({}, {})
    assert data.spectrum(results, "a") is None
    results["runs"][0]["spectrum"] = {"singular_values": [1.0, 3.0, 2.0]}
    results["runs"][1]["spectrum"] = {"singular_values": [5.0, 4.0]}
    curve = data.spectrum(results, "a")
    np.testing.assert_array_equal(curve.x, [1, 2])
    np.testing.assert_array_equal(curve.mean, [4.0, 3.0])


def test_datasets_in_order():
    results = {"datasets": {"id": "i", "shifts": ["s"], "near": ["n"], "far": ["f"]}}
    assert data.evaluated(results) == ["i", "s"]
    assert data.out_of_distribution(results) == ["n", "f"]


@pytest.mark.parametrize(
    ("count", "right", "level"), [(1, 1, 0.95), (7, 0, 0.95), (300, 123, 0.95), (300, 123, 0.5)]
)
def test_accuracy_interval_is_wilsons(count, right, level):
    bins = Reliability(
        np.linspace(0, 1, 3),
        np.array([0.0, 3 * count]),
        np.array([np.nan, 0.7]),
        np.array([np.nan, right / count]),
        repeats=3,
        level=level,
    )
    low, high = bins.accuracy_interval()
    oracle = stats.binomtest(right, count).proportion_ci(level, method="wilson")
    np.testing.assert_allclose([low[1], high[1]], [oracle.low, oracle.high], atol=1e-12)
    assert np.isnan(low[0]) and np.isnan(high[0])


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_of_one_split_is_the_recorded_one(level):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((90, 4)), rng.integers(0, 4, 90)
    recorded = split_metrics.reliability(
        of_logits(logits, labels, num_bins=5), num_bins=5, level=level
    )
    results = results_with({"x": recorded})
    results["runs"][0]["level"] = level
    pooled = data.pooled_reliability(results, "a", ["x"])
    want = np.array([recorded["accuracy_low"], recorded["accuracy_high"]], np.float64)
    np.testing.assert_allclose(pooled.accuracy_interval(), want, rtol=1e-12)


def test_the_level_of_older_records():
    assert data.level(results_with({})) == 0.95


def test_predictions_come_from_files_where_no_run_was_trained():
    results = results_with({}, {})
    assert data.of_files(results) and not data.has_seeds(results)
    results["runs"][1]["num_steps"] = 0
    assert not data.of_files(results)
    assert data.has_seeds({"seeds": [0, 1]}) and not data.has_seeds({"seeds": [0]})


def test_risk_coverage_is_a_mean_over_data_sets_then_seeds():
    def run(seed, *risks):
        points = {
            f"s{k}": {"coverage": [0.5, 1.0], "risk": [risk / 2, risk]}
            for k, risk in enumerate(risks)
        }
        return {"method": "a", "seed": seed, "selective": points}

    results = {"runs": [run(0, 0.2, 0.4), run(1, 0.6), {"method": "b"}]}
    curve = data.risk_coverage(results, "a", ["s0", "s1"])
    assert curve.x[-1] == 100 and 4 < curve.x[0] <= 5
    np.testing.assert_allclose([curve.mean[-1], curve.low[-1], curve.high[-1]], [45, 30, 60])
    np.testing.assert_allclose(curve.mean[0], 22.5)  # below the first point: its risk
    assert data.risk_coverage(results, "b", ["s0"]) is None


def test_the_end_of_the_spectrum():
    results = {"runs": [{"method": "a", "spectrum": {"singular_values": [3.0, 2.0, 1.0]}}]}
    curve = data.spectrum(results, "a", last=2)
    assert curve.x.tolist() == [2, 3] and curve.mean.tolist() == [2, 1]
