"""What makes a training or an evaluation another one: in a finished workdir, by real runs."""

import copy
import dataclasses
import json
import shutil
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.numpy

from calib_jax.calibrators.ensemble import EnsembleTemperatureScaling
from calib_jax.core.errors import ConfigError, DataError, WeightsError
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.predict import Predictor
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.runs import rows, trainer
from calib_jax.runs.run import run
from calib_jax.runs.workdir import read_json, write_json
from calib_jax.scores.energy import Energy
from calib_jax.scores.max_logit import MaxLogit
from calib_jax.scores.max_similarity import MaxSimilarity
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.scores.score import Score
from calib_jax.weight_space.rows import WiseFT

pytestmark = pytest.mark.usefixtures("one_device", "no_figures")

METHODS = {
    "zero_shot": zero_shot(),
    "finetune": finetune().scheduled(learning_rate=1e-3, warmup_steps=1),
}


@pytest.fixture(scope="module")
def finished(from_pretrained, tmp_path_factory):
    """A finished run of two methods and a row of weights: (experiment, workdir, results)."""
    workdir = tmp_path_factory.mktemp("finished")
    experiment = from_pretrained(
        methods=METHODS, weight_space={"wise": WiseFT(of="finetune")}, seeds=(0,)
    )
    return experiment, workdir, run(experiment, workdir)


@pytest.fixture
def again(finished, tmp_path, monkeypatch):
    """The experiment, a copy of its workdir, and what was trained and predicted since."""
    experiment, workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    asked = {"trained": [], "predicted": []}
    fit, predict = trainer.fit, Predictor.__call__

    def watched_fit(method, *args, logbook, **kwargs):
        asked["trained"] += [(logbook.name, logbook.seed)] if method.terms else []
        return fit(method, *args, logbook=logbook, **kwargs)

    def watched_predict(self, params, splits, *, bar=None, **kwargs):
        asked["predicted"] += [(bar, split) for split in splits if bar]
        return predict(self, params, splits, bar=bar, **kwargs)

    monkeypatch.setattr(trainer, "fit", watched_fit)
    monkeypatch.setattr(Predictor, "__call__", watched_predict)
    return copy.deepcopy(experiment), tmp_path / "run", asked


def metrics_of(results):
    return {(run["method"], run["seed"]): run["metrics"] for run in results["runs"]}


def test_the_same_command_makes_nothing(again, finished):
    experiment, workdir, asked = again
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert run(experiment, workdir) == finished[2]
    assert asked == {"trained": [], "predicted": []}
    after = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after[path]} == set()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: setattr(e, "num_resamples", 10), "num_resamples: 20 -> 10"),
        (
            lambda e: e.calibrators.update(ensemble=EnsembleTemperatureScaling()),
            "calibrators.ensemble: 'absent' -> ",
        ),
        (lambda e: setattr(e, "conformal_alpha", 0.5), "conformal_alpha: None -> 0.5"),
    ],
    ids=["resamples", "calibrator", "conformal"],
)
def test_another_evaluation_needs_no_model(again, finished, capsys, change, said):
    experiment, workdir, asked = again
    change(experiment.evaluation)
    before = (workdir / "results.json").read_bytes()
    results = run(experiment, workdir)
    assert asked == {"trained": [], "predicted": []}
    assert metrics_of(results) == metrics_of(finished[2])
    assert (workdir / "earlier/1/results.json").read_bytes() == before
    assert (workdir / "earlier/1/report.html").exists()
    assert (workdir / "earlier/1/evaluations/seed_0/finetune.json").exists()
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "evaluated again" in line]
    assert line.startswith(f"evaluation.{said}") and "not trained again" in line
    for record, old in zip(results["runs"], finished[2]["runs"], strict=True):
        assert record["train_seconds"] == old["train_seconds"]
        assert record.get("combination") == old.get("combination")
    # And then it is finished.
    assert run(experiment, workdir) == results
    assert not (workdir / "earlier/2").exists()


def test_a_further_score_is_all_that_is_computed(again, finished, monkeypatch):
    experiment, workdir, asked = again
    computed = []

    class Watched(MSP):
        def __call__(self, quantities):
            computed.append(len(quantities.logits))
            return super().__call__(quantities)

    for score in (MSP, MaxLogit, Energy, MCM, MaxSimilarity):
        monkeypatch.setattr(score, "__call__", None)
    monkeypatch.setattr(rows, "evaluate", None)
    monkeypatch.setattr(
        MSP, "__call__", lambda self, quantities: quantities.logits.max(axis=1) + 0.0
    )
    experiment.evaluation.scores["mine"] = Watched()
    results = run(experiment, workdir)
    assert asked == {"trained": [], "predicted": []}
    assert computed == [10, 5, 6] * 3  # the ID split and two OOD sets, of three rows
    for record, old in zip(results["runs"], finished[2]["runs"], strict=True):
        mine = {name: of_set.pop("mine") for name, of_set in record["detection"].items()}
        ends = {name: of_set.pop("mine") for name, of_set in record["detection_intervals"].items()}
        assert record == old
        for name, of_set in old["detection"].items():
            assert mine[name] == of_set["max_logit"]  # the same values under another name
            assert ends[name] == old["detection_intervals"][name]["max_logit"]
    # Another score in the table: nothing is computed at all.
    experiment.evaluation.score = "mine"
    table = run(experiment, workdir)["table"]
    assert len(computed) == 9 and asked == {"trained": [], "predicted": []}
    assert table[0]["near_auroc"]["mean"] == mine_of(finished[2], "near", "max_logit")
    # And it is gone again.
    experiment.evaluation.score = "mcm"
    del experiment.evaluation.scores["mine"]
    assert run(experiment, workdir)["runs"] == finished[2]["runs"]


def mine_of(results, ood_set, score):
    return results["runs"][0]["detection"][ood_set][score]["auroc"]


def test_a_fitted_score_sees_the_fine_tuning_images(again):
    experiment, workdir, asked = again
    experiment.evaluation.scores["near the mean"] = NearMean()
    record = run(experiment, workdir)["runs"][1]
    assert 0 <= record["detection"]["far"]["near the mean"]["auroc"] <= 1
    assert NearMean.fits == [24] * 3
    assert {bar for bar, _ in asked["predicted"]} == {"reference"}


def test_a_fitted_score_needs_images_to_fit_it_to(from_pretrained, tmp_path):
    experiment = from_pretrained(methods={"zero_shot": zero_shot()})
    experiment.evaluation.scores["near the mean"] = NearMean()
    message = r"evaluation.scores.near the mean: it is fitted to the fine-tuning images, but no"
    with pytest.raises(ConfigError, match=message):
        run(experiment, tmp_path)
    assert not (tmp_path / "config.json").exists()


@dataclasses.dataclass(kw_only=True)
class NearMean(Score):
    """Minus the distance of the features to their mean over the reference."""

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    fit_needs: ClassVar[frozenset[str]] = frozenset({"features"})
    fits: ClassVar[list[int]] = []
    mean: Any = None

    def fit(self, reference):
        self.fits.append(len(reference.features))
        return dataclasses.replace(self, mean=reference.features.mean(axis=0))

    def __call__(self, quantities):
        return -np.linalg.norm(quantities.features.astype(np.float64) - self.mean, axis=1)


def test_another_ood_set_is_all_that_is_predicted(again):
    experiment, workdir, asked = again
    experiment.evaluation.far["far too"] = Split(name="tiny_mixtures", split="near")
    results = run(experiment, workdir)
    assert asked["trained"] == [("finetune", 0)] * 2  # read from the checkpoint: for two rows
    assert {split for _, split in asked["predicted"]} == {"far too"}
    assert set(results["runs"][0]["detection"]) == {"near", "far", "far too"}
    history = (workdir / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in history]
    assert steps == [2, 3, 4, 6]


def test_without_kept_predictions_they_are_made_again(again, finished):
    experiment, workdir, asked = again
    shutil.rmtree(workdir / "predictions")
    experiment.evaluation.num_resamples = 0
    results = run(experiment, workdir)
    assert metrics_of(results) == metrics_of(finished[2])
    assert {bar for bar, _ in asked["predicted"]} == {
        "evaluate zero_shot, seed 0",
        "evaluate finetune, seed 0",
        "evaluate wise, seed 0",
    }


def test_predictions_may_be_left_out(from_pretrained, tmp_path):
    experiment = from_pretrained(methods={"zero_shot": zero_shot()})
    experiment.evaluation.keep_predictions = False
    first = run(experiment, tmp_path)
    assert not (tmp_path / "predictions").exists()
    experiment.evaluation.keep_predictions = True
    # No number depends on it: the run is finished.
    assert run(experiment, tmp_path)["runs"] == first["runs"]


def test_a_further_seed_trains_that_seed_alone(again, finished):
    experiment, workdir, asked = again
    experiment.seeds = (0, 1)
    results = run(experiment, workdir)
    assert set(asked["trained"]) == {("finetune", 1)}
    assert results["seeds"] == [0, 1]
    assert [(r["method"], r["seed"]) for r in results["runs"]] == [
        (name, seed) for seed in (0, 1) for name in ("zero_shot", "finetune", "wise")
    ]
    old = metrics_of(finished[2])
    assert {key: value for key, value in metrics_of(results).items() if key in old} == old
    spread = {row["method"]: row["id_ece"]["std"] for row in results["table"]}
    assert spread["finetune"] is not None
    assert (workdir / "earlier/1/results.json").exists()


def test_a_further_method_trains_that_method_alone(again, finished):
    experiment, workdir, asked = again
    experiment.methods["slower"] = finetune().scheduled(learning_rate=1e-4, warmup_steps=1)
    results = run(experiment, workdir)
    assert asked["trained"] == [("slower", 0)]
    names = ["zero_shot", "finetune", "slower", "wise"]
    assert [row["method"] for row in results["table"]] == names
    old = metrics_of(finished[2])
    assert {key: value for key, value in metrics_of(results).items() if key in old} == old
    del experiment.methods["finetune"], experiment.weight_space["wise"]
    fewer = run(experiment, workdir)
    assert [row["method"] for row in fewer["table"]] == ["zero_shot", "slower"]
    assert asked["trained"] == [("slower", 0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: setattr(e.finetune.training, "num_steps", 8),
            r"1 field differs: finetune.training.num_steps: 6 -> 8\.",
        ),
        (
            lambda e: setattr(e.methods["finetune"].optimizer, "learning_rate", 0.5),
            r"1 field differs: methods.finetune.optimizer.learning_rate: 0.001 -> 0.5\.",
        ),
        (
            lambda e: setattr(e.evaluation, "templates", ("a picture of {}.",)),
            r"evaluation.templates: \['a photo of {}.'\] -> ",
        ),
        (
            lambda e: setattr(e.finetune.sources[0].split, "split", "train[:20]"),
            r"finetune.sources: ",
        ),
    ],
    ids=["steps", "rate", "templates", "data"],
)
def test_another_training_is_refused_and_all_left_as_it_is(again, change, message):
    experiment, workdir, asked = again
    experiment.methods["finetune"] = copy.deepcopy(experiment.methods["finetune"])
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    change(experiment)
    with pytest.raises(ConfigError, match=message):
        run(experiment, workdir)
    assert asked == {"trained": [], "predicted": []}
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def test_another_pretrained_model_is_refused(again, tmp_path):
    experiment, workdir, _ = again
    folder = tmp_path / "pretrained"
    shutil.copytree(experiment.pretrained, folder)
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    weights["visual_projection.weight"] += 1
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    experiment.pretrained = str(folder)
    with pytest.raises(WeightsError, match=r"model\.safetensors: got another content than SHA256"):
        run(experiment, workdir)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ConfigError, match=r"1 field differs: pretrained_weights_crc32: \d+ -> \d+"):
        run(experiment, workdir)


def test_what_changes_no_weight_is_no_other_training(again):
    experiment, workdir, asked = again
    experiment.finetune.training.log_every = 1
    experiment.finetune.training.checkpoint_every = 5
    experiment.evaluation.batch_size = 16
    experiment.title = "Four colours"
    results = run(experiment, workdir)
    assert asked == {"trained": [], "predicted": []}
    assert results["title"] == "Four colours"


def test_other_images_under_the_same_name_are_noticed(from_pretrained, tiny_data, tmp_path):
    data_dir = tmp_path / "data"
    shutil.copytree(tiny_data, data_dir)
    experiment = from_pretrained(data_dir=str(data_dir), methods={"finetune": METHODS["finetune"]})
    run(experiment, tmp_path / "run")
    (records,) = data_dir.rglob("tiny_colours-train.array_record*")
    (others,) = data_dir.rglob("tiny_colours-test.array_record*")
    records.write_bytes(others.read_bytes())
    with pytest.raises(ConfigError, match=r"finetune.data: \[\d+\] -> \[\d+\]\. Choose another"):
        run(experiment, tmp_path / "run")


def test_a_training_of_which_nothing_is_kept_may_be_another_one(again):
    experiment, workdir, asked = again
    shutil.rmtree(workdir / "checkpoints" / "seed_0" / "finetune")
    experiment.methods["finetune"] = finetune().scheduled(learning_rate=1e-4, warmup_steps=1)
    run(experiment, workdir)
    assert set(asked["trained"]) == {("finetune", 0)}


def test_a_run_of_an_earlier_version_is_refused(again):
    experiment, workdir, _ = again
    path = workdir / "evaluations/seed_0/finetune.json"
    write_json(path, read_json(path)["record"])
    message = r"a run of an earlier version, which is left as it is\. Choose another --workdir"
    with pytest.raises(ConfigError, match=message):
        run(experiment, workdir)
    shutil.rmtree(workdir / "evaluations")
    shutil.rmtree(workdir / "trainings")
    with pytest.raises(ConfigError, match=message):
        run(experiment, workdir)


def test_a_folder_of_another_kind_of_config_is_refused(again):
    experiment, workdir, _ = again
    write_json(workdir / "config.json", {"()": "Theory"})
    with pytest.raises(ConfigError, match=r"1 field differs: \(\): 'Theory' -> 'Experiment'"):
        run(experiment, workdir)


def test_damaged_predictions_are_named(again):
    experiment, workdir, _ = again
    path = workdir / "predictions/seed_0/finetune/clean/logits.npy"
    np.save(path, np.load(path) + 1)
    experiment.evaluation.num_resamples = 0
    with pytest.raises(DataError, match=r"clean/logits\.npy: it is damaged.*Delete the folder"):
        run(experiment, workdir)
