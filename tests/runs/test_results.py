"""The content of `results.json`, and the examples of the report."""

import datetime
import json
import statistics

import jax
import numpy as np
import pytest

import calib_jax
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.report.comparison import overlapping
from calib_jax.runs import results

TEST, VALIDATION = (Split(name="tiny_colours", split=name) for name in ("test", "validation"))


@pytest.fixture(scope="module")
def splits(tiny_data):
    names = {"clean": TEST, "validation": VALIDATION, "far": TEST}
    return {name: ImageSplit(split, [tiny_data], image_size=8) for name, split in names.items()}


def run(method, seed, accuracy):
    examples = [
        {"index": index, "prediction": f"{method} {index}", "confidence": index / 10}
        for index in (0, 4)
    ]
    return {
        "method": method,
        "seed": seed,
        "summary": {"id_accuracy": accuracy},
        "examples": {"clean": examples, "far": examples[:1]},
    }


TUNED = {"chosen": "low", "metric": "nll", "trials": [{"name": "low", "score": 0.5}]}
RUNS = [run("ft", 0, 0.5), run("carot", 0, 0.8), run("ft", 1, 0.7), run("carot", 1, 0.9)]


def test_results_hold_everything_and_are_json(splits):
    evaluation = Evaluation(
        id_split=TEST, validation=VALIDATION, far={"far": TEST}, templates=("a {}",), score="msp"
    )
    got = results.results_of(
        RUNS,
        results.datasets_of(evaluation, splits),
        name="tiny",
        title="Tiny",
        class_names=("red", "green", "dark blue"),
        seeds=(0, 1),
        tuned_on="validation",
        tuning={"ft": TUNED},
        config={"a": 1},
        table_score="msp",
        wall_seconds=1.5,
    )
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert got["schema"] == results.SCHEMA
    assert got["calib_jax_version"] == calib_jax.__version__
    assert got["datasets"] == {
        "id": "clean",
        "shifts": [],
        "near": [],
        "far": ["far"],
        "num_examples": {"clean": 10, "validation": 12, "far": 10},
    }
    assert (got["table_score"], got["tuned_on"], got["config"]) == ("msp", "validation", {"a": 1})
    assert got["tuning"] == {"ft": TUNED}
    assert got["environment"]["num_devices"] == jax.device_count()
    assert got["environment"]["wall_seconds"] == 1.5
    assert got["seeds"] == [0, 1]
    assert got["runs"] == RUNS
    assert [row["method"] for row in got["table"]] == ["ft", "carot"]
    assert got["table"][1]["id_accuracy"]["mean"] == pytest.approx(0.85)
    created = datetime.datetime.strptime(got["created"], "%Y-%m-%dT%H:%M:%SZ")
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert abs((now - created).total_seconds()) < 60


def test_examples_carry_pixels_labels_and_every_methods_prediction(splits):
    got = results.example_images(RUNS, splits, seed=0)
    assert [(example.dataset, example.index) for example in got] == [
        ("clean", 0),
        ("clean", 4),
        ("far", 0),
    ]
    assert [example.label for example in got] == ["red", "green", "red"]
    np.testing.assert_array_equal(got[1].image, splits["clean"].image(4))
    assert got[1].predictions == {"ft": ("ft 4", 0.4), "carot": ("carot 4", 0.4)}


def test_a_seed_without_runs_has_no_examples(splits):
    assert results.example_images(RUNS, splits, seed=5) == []


def test_the_images_of_the_most_confident_mistakes_follow(splits):
    def mistake(index, confidence):
        return {"index": index, "label": "a", "prediction": "b", "confidence": confidence}

    on_id, on_shifts = [mistake(0, 0.9)], [mistake(i, 0.9 - i / 100) for i in range(8)]
    runs = [
        run("ft", 0, 0.5),  # of an earlier version
        run("carot", 0, 0.8)
        | {"mistakes": {"clean": on_id, "validation": on_shifts, "far": [mistake(9, 0.1)]}},
        run("carot", 1, 0.8) | {"mistakes": {"clean": on_shifts}},
    ]
    got = [
        example for example in results.example_images(runs, splits, 0) if not example.predictions
    ]
    assert [(example.dataset, example.index) for example in got] == [
        ("clean", 0),
        *(("validation", index) for index in range(8)),
    ]
    assert got[0].label == "red"


def test_table_has_a_row_a_method_in_order_of_appearance():
    runs = [
        {"method": "ft", "summary": {"id_accuracy": 0.5, "far_auroc": None}},
        {"method": "carot", "summary": {"id_accuracy": 0.9, "far_auroc": 0.8}},
        {"method": "ft", "summary": {"id_accuracy": 0.7, "far_auroc": None}},
    ]
    first, second = results.mean_and_std(runs)
    assert first["method"] == "ft"
    assert first["id_accuracy"]["mean"] == pytest.approx(0.6)
    assert first["id_accuracy"]["std"] == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert first["far_auroc"] == {"mean": None, "std": None}
    assert second == {
        "method": "carot",
        "id_accuracy": {"mean": 0.9, "std": None},
        "far_auroc": {"mean": 0.8, "std": None},
    }
    assert results.mean_and_std([]) == []


def test_a_number_that_an_earlier_version_had_not_is_the_mean_of_those_who_have_it():
    runs = [
        {"method": "ft", "summary": {"id_accuracy": 0.5}},
        {"method": "ft", "summary": {"id_accuracy": 0.7, "worst_shift_ece": 0.2}},
    ]
    for order in (runs, runs[::-1]):
        (row,) = results.mean_and_std(order)
        assert row["worst_shift_ece"] == {"mean": 0.2, "std": None}


def test_rows_that_share_fits_have_no_spread():
    def run(method, seed, value, *seeds):
        made_of = {"combination": {"of": "flyp", "seeds": list(seeds)}} if seeds else {}
        return {"method": method, "seed": seed, "summary": {"id_accuracy": value}, **made_of}

    runs = [
        *(run("flyp", seed, 0.5 + 0.1 * seed) for seed in range(2)),
        *(run("soup", seed, 0.6 + 0.1 * seed, seed, 1 - seed) for seed in range(2)),
        *(run("wise", seed, 0.7 + 0.1 * seed, seed) for seed in range(2)),
    ]
    assert overlapping(runs) == {"soup"}
    spreads = [row["id_accuracy"]["std"] for row in results.mean_and_std(runs)]
    assert spreads == [pytest.approx(0.1 / 2**0.5), None, pytest.approx(0.1 / 2**0.5)]
