"""One run with all that a table can have: tuned methods, methods of methods, rows of weights."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest

from calib_jax.core.sharding import make_mesh
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.predict import Predictor
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.compositions import averaged, born_again
from calib_jax.methods.probes import linear_probe, lp_ft
from calib_jax.models.weights.export import write_model
from calib_jax.runs import trainer as trainer_module
from calib_jax.runs.experiment import Tuning
from calib_jax.runs.run import run
from calib_jax.runs.texts import read_texts
from calib_jax.training.loop import Training
from calib_jax.weight_space.rows import Soup, TeacherOf, WiseFT


@dataclasses.dataclass(kw_only=True)
class TwoColours(Split):
    """Colours among which red and dark blue are one class: the logits are restricted."""

    def groups(self, own_names, class_names):
        return np.array([0, 1, 0], np.int32)


pytestmark = pytest.mark.usefixtures("one_device", "no_figures")

METHODS = ["zero_shot", "linear_probe", "probe", "averaged", "born_again"]
ROWS = ["wise_ft", "soup", "teacher"]


def probe(learning_rate):
    """The program of an LP-FT's first half."""
    method = linear_probe(solver="gradient").scheduled(learning_rate=learning_rate, warmup_steps=1)
    method.share_of_steps = 0.5
    return method


def mean(learning_rate):
    return averaged(
        linear_probe(solver="gradient").scheduled(learning_rate=learning_rate, warmup_steps=1),
        decay=0.5,
    )


@pytest.fixture(scope="module")
def experiment(tiny_experiment, tiny_model, tmp_path_factory):
    """Tuned methods, methods of methods and rows of weights, on two seeds, four steps each."""
    folder = tmp_path_factory.mktemp("pretrained")
    encoder, params = tiny_model
    write_model(folder, encoder.config, params, bos=1, eot=11, pad=0)
    read_texts(tiny_experiment(), make_mesh()).tokenizer.save(folder, context_length=16)
    experiment = tiny_experiment(
        **{"model": None, "pretrain": None, "pretrain_method": None, "pretrained": str(folder)},
        methods={
            "zero_shot": zero_shot(),
            "linear_probe": linear_probe(),
            "probe": probe(1e30),
            "averaged": mean(1e-4),
            "born_again": born_again(
                lp_ft(probe_learning_rate=0.5).scheduled(learning_rate=1e-3, warmup_steps=1)
            ),
        },
        tuning=Tuning(
            trials={
                "probe": {"broken": probe(1e30), "fair": probe(0.1)},
                "averaged": {"small": mean(1e-4), "large": mean(0.1)},
            }
        ),
        weight_space={
            "wise_ft": WiseFT(of="born_again", alphas=(0.0, 0.5, 1.0)),
            "soup": Soup(of="averaged"),
            "teacher": TeacherOf(of="averaged"),
        },
        seeds=(7, 2),
    )
    experiment.finetune.training = Training(
        num_steps=4, batch_size=16, log_every=4, checkpoint_every=4
    )
    experiment.export.models = False
    experiment.evaluation.num_resamples = 0
    experiment.evaluation.near = experiment.evaluation.far = {}
    # Of fewer classes than the model: what is chosen is chosen by the numbers that are reported.
    experiment.evaluation.validation = TwoColours(name="tiny_colours", split="validation")
    return experiment


class Seen:
    """What a run has done: every fit, which of them made steps, and passes for features."""

    def __init__(self):
        self.fits, self.trained, self.num_feature_passes = {}, [], 0

    def patch(self, monkeypatch):
        fit, make_batches = trainer_module.fit, trainer_module.Trainer._batches
        predict = Predictor.__call__

        def watched(method, encoder, params, tables, **rest):
            key = (rest["logbook"].name, rest["logbook"].seed)
            self.last = key
            fitted = fit(method, encoder, params, tables, **rest)
            self.fits[key] = {"params": params, "origin": rest["origin"], "fitted": fitted}
            return fitted

        def opened(trainer, *args):
            self.trained.append(self.last)
            return make_batches(trainer, *args)

        def counted(predictor, params, splits, **rest):
            self.num_feature_passes += rest.get("bar") == "features"
            return predict(predictor, params, splits, **rest)

        monkeypatch.setattr(trainer_module, "fit", watched)
        monkeypatch.setattr(trainer_module.Trainer, "_batches", opened)
        monkeypatch.setattr(Predictor, "__call__", counted)


@pytest.fixture(scope="module")
def finished(experiment, tmp_path_factory):
    """The run's workdir and results, and what it did."""
    workdir, seen = tmp_path_factory.mktemp("tuned"), Seen()
    with pytest.MonkeyPatch.context() as monkeypatch:
        seen.patch(monkeypatch)
        results = run(experiment, workdir)
    return workdir, results, seen


def cell(results, method, seed):
    """The record of one row and seed."""
    (record,) = (r for r in results["runs"] if (r["method"], r["seed"]) == (method, seed))
    return record


def assert_same(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_the_results_have_every_row_and_the_tuning(finished):
    workdir, results, _ = finished

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    assert json.loads((workdir / "results.json").read_text(), parse_constant=refuse) == results
    cells = [(r["method"], r["seed"]) for r in results["runs"]]
    assert cells == [(name, seed) for seed in (7, 2) for name in (*METHODS, *ROWS)]
    assert [row["method"] for row in results["table"]] == [*METHODS, *ROWS]
    assert list(results["tuning"]) == ["probe", "averaged"]
    broken, fair = results["tuning"]["probe"]["trials"]
    assert (results["tuning"]["probe"]["chosen"], broken["score"]) == ("fair", None)
    assert fair["score"] == cell(results, "probe", 7)["metrics"]["validation"]["nll"]
    steps = {name: cell(results, name, 2)["num_steps"] for name in (*METHODS, *ROWS)}
    assert steps.pop("linear_probe") > 4  # iterations of L-BFGS
    assert steps == {
        **dict.fromkeys(("zero_shot", *ROWS), 0),
        **{"probe": 2, "averaged": 4, "born_again": 2},
    }


def test_the_history_has_the_reported_numbers(finished):
    """The split is small: the last look during the training was at all of it."""
    rows = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    for phase, seed in (("born_again", 7), ("probe.fair", 2)):
        last = [row for row in rows if (row["phase"], row["seed"]) == (phase, seed)][-1]
        reported = cell(finished[1], phase.split(".")[0], seed)["metrics"]["validation"]
        assert last["validation_nll"] == pytest.approx(reported["nll"], rel=1e-5)
        assert last["validation_accuracy"] == reported["accuracy"]


def test_the_best_trial_goes_on_to_be_the_method(finished):
    """Its first seed is not trained twice, and what the losers left is gone."""
    workdir, results, seen = finished
    tuning = results["tuning"]["averaged"]
    scores = {trial["name"]: trial["score"] for trial in tuning["trials"]}
    best, worst = sorted(scores, key=scores.get)
    assert tuning["chosen"] == best and scores[best] < scores[worst]
    assert scores[best] == cell(results, "averaged", 7)["metrics"]["validation"]["nll"]
    parts = ["warm_start", "taught_by.warm_start", "taught_by"]
    kept = ["probe.fair", f"averaged.{best}", *(f"born_again.{part}" for part in parts)]
    kept.append("born_again")
    lost = ["probe.broken", f"averaged.{worst}"]
    expected = [*((name, 7) for name in (*kept, *lost)), *((name, 2) for name in kept)]
    assert sorted(seen.trained) == sorted(expected)
    for seed in (7, 2):
        folder = workdir / f"checkpoints/seed_{seed}"
        assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_a_warm_start_is_where_the_training_starts(finished, tiny_model):
    for seed in (7, 2):
        probe, whole = (
            finished[2].fits[f"born_again.taught_by{part}", seed] for part in (".warm_start", "")
        )
        assert_same(whole["params"], probe["fitted"].params)
        assert np.any(whole["params"]["classifier"]["bias"])
        assert_same(whole["params"]["encoder"], tiny_model[1])
        moved = whole["fitted"].params["encoder"]["image"]["projection"]["kernel"]
        assert np.any(moved != tiny_model[1]["image"]["projection"]["kernel"])


def test_a_born_again_method_starts_over_and_learns_from_its_first_fit(finished):
    first, again = (finished[2].fits[name, 2] for name in ("born_again.taught_by", "born_again"))
    assert_same(first["params"], again["params"])
    assert first["origin"] is None
    assert_same(again["origin"], first["fitted"].params)


def test_an_average_is_what_the_method_results_in(finished):
    best = finished[1]["tuning"]["averaged"]["chosen"]
    fitted = finished[2].fits[f"averaged.{best}", 7]["fitted"]
    assert_same(fitted.params, fitted.teacher)
    assert np.any(fitted.params["classifier"]["bias"])


def test_features_are_cached_once_for_all_heads(finished):
    """Two seeds, four methods, two trials of two of them: one pass through the encoder."""
    assert finished[2].num_feature_passes == 1


def test_logistic_regression_depends_on_no_seed(finished):
    first, second = (cell(finished[1], "linear_probe", seed) for seed in (7, 2))
    assert first["metrics"] == second["metrics"]
    assert first["metrics"] != cell(finished[1], "zero_shot", 7)["metrics"]
    chosen = first["chosen"]
    assert set(chosen) == {"l2", "converged", "nll"}
    assert f"{chosen['l2']:g}" == min(chosen["nll"], key=chosen["nll"].get)
    assert min(chosen["nll"].values()) == pytest.approx(first["metrics"]["validation"]["nll"])


def test_rows_of_weights_say_what_they_are_made_of(finished):
    results = finished[1]
    for seed in (7, 2):
        record = cell(results, "wise_ft", seed)
        made_of = copy.deepcopy(record["combination"])
        curve = made_of.pop("nll")
        assert made_of == {
            "of": "born_again",
            "seeds": [seed],
            "alpha": float(min(curve, key=curve.get)),
        }
        assert list(curve) == ["0.0", "0.5", "1.0"]
        nll = {
            r["method"]: r["metrics"]["validation"]["nll"]
            for r in results["runs"]
            if r["seed"] == seed
        }
        assert nll["wise_ft"] == curve[str(made_of["alpha"])]
        assert curve["1.0"] == nll["born_again"]
        # The start is the pre-trained model with its zero-shot head, not the probe.
        assert curve["0.0"] == pytest.approx(nll["zero_shot"], rel=1e-5)
        assert nll["teacher"] == nll["averaged"]
    assert cell(results, "soup", 7)["combination"] == {"of": "averaged", "seeds": [7, 2]}


def test_a_soup_goes_around_the_end_of_the_seeds(finished):
    """The last row's first model is of its own seed, the second of the first; the mean is equal."""
    first, last = (cell(finished[1], "soup", seed) for seed in (7, 2))
    assert last["combination"]["seeds"] == [2, 7]
    assert last["metrics"] == first["metrics"]
    assert all(cell(finished[1], "averaged", s)["metrics"] != last["metrics"] for s in (7, 2))


def test_the_same_command_again_trains_nothing(finished, experiment, monkeypatch):
    workdir, results, _ = finished
    before = {path: path.read_bytes() for path in workdir.rglob("*.json*")}
    seen = Seen()
    seen.patch(monkeypatch)
    assert run(experiment, workdir) == results
    assert (seen.fits, seen.trained, seen.num_feature_passes) == ({}, [], 0)
    assert {path: path.read_bytes() for path in workdir.rglob("*.json*")} == before


def test_a_lost_cell_is_made_again_alone(finished, experiment, monkeypatch):
    workdir, results, _ = finished
    (workdir / "evaluations/seed_2/soup.json").unlink()
    seen = Seen()
    seen.patch(monkeypatch)
    again = run(experiment, workdir)
    phase = f"averaged.{results['tuning']['averaged']['chosen']}"
    assert (list(seen.fits), seen.trained) == ([(phase, 2), (phase, 7)], [])
    assert again["tuning"] == results["tuning"]
    clock = {"train_seconds": 0.0}
    assert [r | clock for r in again["runs"]] == [r | clock for r in results["runs"]]
