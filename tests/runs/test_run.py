"""A finished run: its results, its files, the same command again."""

import copy
import json
import pathlib
import re
import shutil

import jax
import pytest
import safetensors.numpy

from calib_jax.calibrators.sample_adaptive import SampleAdaptiveScaling
from calib_jax.core.errors import CheckpointError, ConfigError
from calib_jax.methods.baselines import zero_shot
from calib_jax.runs import trainer
from calib_jax.runs.run import run
from calib_jax.training import loop
from calib_jax.weight_space.rows import Tpgm

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def finished(tiny_experiment, tmp_path_factory):
    """A finished run of the tiny experiment: (experiment, workdir, results)."""
    workdir = tmp_path_factory.mktemp("finished")
    experiment = tiny_experiment()
    # More than the examples that there are.
    experiment.weight_space["tpgm"] = Tpgm(of="finetune", num_steps=2, batch_size=16)
    experiment.evaluation.calibrators["adaptive"] = SampleAdaptiveScaling()
    return experiment, workdir, run(experiment, workdir)


def test_results_hold_every_number(finished):
    experiment, workdir, results = finished
    assert json.loads((workdir / "results.json").read_text()) == results
    names = ["zero_shot", "finetune", "carot", "tpgm"]
    assert [run["method"] for run in results["runs"]] == names
    for record in results["runs"]:
        assert set(record["metrics"]) == {"validation", "clean", "shifted"}
        assert set(record["detection"]) == {"near", "far"}
        assert set(record["detection"]["near"]) == {
            "msp",
            "max_logit",
            "energy",
            "mcm",
            "max_similarity",
        }
        summary = record["summary"]
        assert summary["id_accuracy"] == record["metrics"]["clean"]["accuracy"]
        assert summary["ood_ece"] == record["metrics"]["shifted"]["ece_15"]
        assert summary["far_auroc"] == record["detection"]["far"]["mcm"]["auroc"]
    assert [r["num_steps"] for r in results["runs"]] == [0, 6, 6, 0]
    made_of = results["runs"][-1]["combination"]
    assert (made_of["of"], made_of["seeds"], len(made_of["losses"])) == ("finetune", [0], 2)
    assert made_of["mean_radius"] > 0
    assert results["tuning"] == {}
    assert results["config"]["finetune"]["training"]["num_steps"] == 6
    assert results["datasets"]["num_examples"] == {
        "validation": 12,
        "clean": 10,
        "shifted": 5,
        "near": 5,
        "far": 6,
    }
    assert results["seeds"] == [0]
    report = (workdir / "report.html").read_text()
    assert all(word in report for word in ("zero_shot", "carot", "shifted", "Three colours"))


def test_a_calibrator_that_compares_with_the_pre_trained_model(finished):
    before, after, *_ = finished[2]["runs"]
    for record in (before, after):
        found = record["calibrated"]["adaptive"]
        assert found["fitted_on"] is None
        assert list(found["metrics"]) == ["clean", "shifted"]
        for name, metrics in found["metrics"].items():
            raw = {key: record["metrics"][name][key] for key in metrics}
            assert metrics["accuracy"] == raw["accuracy"]
            # The pre-trained model compared with itself stays what it is.
            assert (metrics == pytest.approx(raw, rel=1e-5)) == (record is before)


def test_history_has_every_phase(finished):
    rows = [json.loads(line) for line in (finished[1] / "metrics.jsonl").read_text().splitlines()]
    steps = {
        phase: [r["step"] for r in rows if r["phase"] == phase]
        for phase in ("pretrain", "finetune", "carot")
    }
    assert steps == {"pretrain": [2, 3, 4], "finetune": [2, 3, 4, 6], "carot": [2, 3, 4, 6]}
    last = rows[-1]
    assert last["parameter_norm"] > 0
    assert set(last["terms"]) == {
        "contrastive",
        "orthogonality",
        "cross_projection",
        "self_distillation",
    }
    assert {"smallest_singular_value", "projection_smallest_singular_value"} <= set(last)
    assert 0 <= last["validation_accuracy"] <= 1


def test_the_docs_explain_every_file_and_every_key_of_the_history(finished):
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "workdir.md"
    cells = re.findall(r"^\| (`.*?) \|", page.read_text("utf-8"), re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    workdir = finished[1]
    assert {path.name for path in workdir.iterdir()} <= {name.split("/")[0] for name in names}
    assert {path.name for path in (workdir / "models" / "seed_0" / "carot").iterdir()} <= names
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert set().union(*rows) <= names


def test_the_same_command_again_trains_nothing(finished, monkeypatch):
    experiment, workdir, results = finished
    before = (workdir / "metrics.jsonl").read_bytes()

    def no_training(*args, **kwargs):
        raise AssertionError("a finished method was trained again")

    monkeypatch.setattr(trainer, "fit", no_training)
    again = run(experiment, workdir)
    assert again["runs"] == results["runs"]
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_without_evaluations_the_last_checkpoint_is_evaluated(finished, tmp_path, monkeypatch):
    experiment, workdir, results = finished
    record = workdir / "evaluations" / "seed_0" / "carot.json"
    before = json.loads(record.read_text())
    record.unlink()

    def no_step(*args, **kwargs):
        raise AssertionError("a finished training made another step")

    monkeypatch.setattr(loop, "make_train_step", no_step)
    run(experiment, workdir)
    after = json.loads(record.read_text())
    assert after["record"]["metrics"] == before["record"]["metrics"]


def test_a_finished_run_keeps_its_date_and_duration(finished):
    experiment, workdir, _ = finished
    before = (workdir / "results.json").read_bytes()
    assert run(experiment, workdir) == json.loads(before)
    assert (workdir / "results.json").read_bytes() == before


def test_another_model_under_the_same_path_is_noticed(from_pretrained, tmp_path, capsys):
    """Of what is not trained: the numbers are made again, and the earlier ones kept."""
    folder = tmp_path / "pretrained"
    shutil.copytree(from_pretrained().pretrained, folder)
    experiment = from_pretrained(pretrained=str(folder), methods={"zero_shot": zero_shot()})
    before = run(experiment, tmp_path / "run")
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    weights["visual_projection.weight"] += 1
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    (folder / "SHA256SUMS").unlink()
    capsys.readouterr()
    after = run(experiment, tmp_path / "run")
    assert "model.pretrained_weights_crc32: " in capsys.readouterr().out
    assert after["runs"][0]["metrics"] != before["runs"][0]["metrics"]
    assert json.loads((tmp_path / "run/earlier/1/results.json").read_text()) == before


def test_another_config_leaves_the_workdir_alone(finished):
    experiment, workdir, _ = finished
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    other = copy.deepcopy(experiment)
    other.methods["carot"].terms["orthogonality"].weight = 0.7
    other.finetune.training.num_steps = 8
    with pytest.raises(
        ConfigError,
        match=r"2 fields differ: finetune.training.num_steps: 6 -> 8; "
        r"methods.carot.terms.orthogonality.weight: 0.2 -> 0.7",
    ):
        run(other, workdir)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


# A failed restore leaves Orbax's event loop behind, which the interpreter finds closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_refused(finished, tmp_path):
    experiment, workdir, _ = finished
    (workdir / "evaluations" / "seed_0" / "finetune.json").unlink()
    folder = workdir / "checkpoints" / "seed_0" / "finetune" / "6" / "state" / "d"
    payload = max(folder.iterdir(), key=lambda p: p.stat().st_size)
    content = payload.read_bytes()
    middle = len(content) // 2
    payload.write_bytes(content[:middle] + bytes(100) + content[middle + 100 :])
    try:
        with pytest.raises(CheckpointError, match=r"finetune/6: .*Delete .*finetune/6"):
            run(experiment, workdir)
    finally:
        payload.write_bytes(content)
    run(experiment, workdir)


def test_export_is_the_pretrained_model(finished, from_pretrained, tmp_path):
    """The zero-shot row is the same from the run that pre-trained and from its exported folder."""
    start = str(finished[1] / "pretrained" / "seed_0")
    results = run(from_pretrained(pretrained=start, methods={"zero_shot": zero_shot()}), tmp_path)
    expected = finished[2]["runs"][0]["metrics"]
    for name, metrics in results["runs"][0]["metrics"].items():
        for key, value in metrics.items():
            assert value == pytest.approx(expected[name][key], abs=1e-6), (name, key)
    assert jax.device_count() == 8
