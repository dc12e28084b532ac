"""What is read of the results: numbers, means, names, curves."""

import math
import statistics

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.report import data


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


def test_datasets_in_order():
    results = {"datasets": {"id": "i", "shifts": ["s"], "near": ["n"], "far": ["f"]}}
    assert data.evaluated(results) == ["i", "s"]
    assert data.out_of_distribution(results) == ["n", "f"]


def test_the_level_of_older_records():
    assert data.level(results_with({})) == 0.95


def test_predictions_come_from_files_where_no_run_was_trained():
    results = results_with({}, {})
    assert data.of_files(results) and not data.has_seeds(results)
    results["runs"][1]["num_steps"] = 0
    assert not data.of_files(results)
    assert data.has_seeds({"seeds": [0, 1]}) and not data.has_seeds({"seeds": [0]})


def test_what_is_recorded_of_curves_and_bins_comes_back():
    points = {"x": [1.0, 2.0], "mean": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.5, 0.75]}
    curve = data.curve(points, scale=100.0)
    assert curve.x.tolist() == [1, 2] and curve.high.tolist() == [50, 75]
    assert data.curve(None) is None and data.curve({}) is None
    columns = ("count", "share", "confidence", "accuracy", "accuracy_low", "accuracy_high")
    found = data.reliability({"edges": [0, 0.5, 1], "ece": 0.2} | {k: [None, 0.5] for k in columns})
    assert found.edges.tolist() == [0, 0.5, 1] and found.ece == 0.2
    assert math.isnan(found.low[0]) and found.high[1] == 0.5
    assert data.reliability(None) is None


def test_a_mean_over_seeds_is_the_recorded_one():
    means = {"a": {"metrics": {"x": {"nll": {"mean": 0.5, "std": 0.25}}}}}
    results = {"page": {"means": means}}
    assert data.over_seeds(results, "a", "metrics", "x", "nll") == (0.5, 0.25)
    assert data.over_seeds(results, "a", "metrics", "y", "nll") == (None, None)
    assert data.over_seeds(results, "b", "metrics", "x", "nll") == (None, None)


def test_a_number_is_what_the_catalogue_or_the_results_say():
    own = {"odd": {"title": "odd one", "unit": "nats", "direction": "lower"}}
    assert data.quantity({"quantities": own}, "odd").heading == "odd one ↓"
    assert data.quantity({"quantities": own}, "ece_20").heading == "ECE 20 ↓"
    with pytest.raises(ConfigError, match="^number: got 'odd', expected a key of the catalogue"):
        data.quantity({}, "odd")
