import copy
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.calibrators.sample_adaptive import SampleAdaptiveScaling
from calib_jax.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from calib_jax.data.pipeline import Source
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.robust import carot, flyp
from calib_jax.runs import trainer
from calib_jax.runs.run import run
from calib_jax.training import loop
from calib_jax.weight_space.rows import Tpgm


@pytest.fixture(scope="module")
def finished(tiny_experiment, tmp_path_factory):
    """A finished run of the tiny experiment: (experiment, workdir, results)."""
    workdir = tmp_path_factory.mktemp("finished")
    experiment = tiny_experiment()
    # More than the examples that there are.
    experiment.weight_space["tpgm"] = Tpgm(of="finetune", num_steps=2, batch_size=16)
    experiment.evaluation.calibrators["adaptive"] = SampleAdaptiveScaling()
    return experiment, workdir, run(experiment, workdir)


def saved_arrays(directory: pathlib.Path):
    """The newest checkpoint's checksums: equal only for bit-equal states."""
    newest = max((p for p in directory.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    meta = json.loads((newest / "meta" / "metadata").read_text())
    return newest.name, meta["checksums"], meta["iterator"]


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


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop_at(monkeypatch, number):
    """The training stops when it takes its batch of that number."""
    original = loop.to_devices
    calls = []

    def stopping(batch, mesh):
        calls.append(1)
        if len(calls) == number:
            raise Stopped
        return original(batch, mesh)

    monkeypatch.setattr(loop, "to_devices", stopping)
    return lambda: monkeypatch.setattr(loop, "to_devices", original)


def rows_of(workdir, phase):
    """The phase's rows of the history, without what a clock says."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["examples_per_second"]
    return [row for row in rows if row["phase"] == phase]


@pytest.fixture(scope="module")
def straight(from_pretrained, tmp_path_factory):
    """The workdir of an uninterrupted CaRot run, and its experiment."""
    experiment = from_pretrained(
        methods={"carot": carot().scheduled(learning_rate=1e-3, warmup_steps=1)}
    )
    workdir = tmp_path_factory.mktemp("straight")
    run(experiment, workdir)
    return experiment, workdir


@pytest.mark.parametrize("number", [2, 5], ids=["before a checkpoint", "after a checkpoint"])
def test_resume_is_bit_exact(straight, tmp_path, monkeypatch, number):
    """Stopped and started again: the same weights and rows as without the stop."""
    experiment, expected = straight
    go_on = stop_at(monkeypatch, number)
    with pytest.raises(Stopped):
        run(experiment, tmp_path)
    go_on()
    run(experiment, tmp_path)
    directory = pathlib.Path("checkpoints/seed_0/carot")
    assert saved_arrays(tmp_path / directory) == saved_arrays(expected / directory)
    assert rows_of(tmp_path, "carot") == rows_of(expected, "carot")


def test_a_stopped_pretraining_goes_on(finished, tiny_experiment, tmp_path, monkeypatch):
    experiment = tiny_experiment(methods={"zero_shot": zero_shot()})
    go_on = stop_at(monkeypatch, 4)
    with pytest.raises(Stopped):
        run(experiment, tmp_path)
    assert saved_arrays(tmp_path / "checkpoints/seed_0/pretrain")[0] == "3"
    go_on()
    run(experiment, tmp_path)
    exported = "pretrained/seed_0/model.safetensors"
    assert (tmp_path / exported).read_bytes() == (finished[1] / exported).read_bytes()
    assert rows_of(tmp_path, "pretrain") == rows_of(finished[1], "pretrain")


def test_nan_stops_and_keeps_the_last_good_checkpoint(from_pretrained, tmp_path, monkeypatch):
    experiment = from_pretrained(
        methods={"flyp": flyp().scheduled(learning_rate=1e-3, warmup_steps=1)}
    )
    original = loop.make_train_step

    def poisoned(*args, **kwargs):
        step_function = original(*args, **kwargs)

        def step(state, batch, tables):
            is_fifth = int(state.step) == 4
            state, metrics = step_function(state, batch, tables)
            if is_fifth:
                metrics["loss"] = metrics["loss"] * np.nan
            return state, metrics

        return step

    monkeypatch.setattr(loop, "make_train_step", poisoned)
    with pytest.raises(TrainingError, match=r"flyp: loss is nan at step 5 \(terms/contrastive"):
        run(experiment, tmp_path)
    assert saved_arrays(tmp_path / "checkpoints" / "seed_0" / "flyp")[0] == "3"
    monkeypatch.setattr(loop, "make_train_step", original)
    assert run(experiment, tmp_path)["runs"][0]["num_steps"] == 6


@pytest.mark.parametrize("log_every", [1, 2])
def test_a_real_nan_is_found(from_pretrained, tmp_path, log_every):
    """Learning rate 1e30: the weights overflow, and the step after says so."""
    experiment = from_pretrained(
        methods={"flyp": flyp().scheduled(learning_rate=1e30, warmup_steps=1)}
    )
    experiment.finetune.training.log_every = log_every
    with pytest.raises(TrainingError, match=r"flyp: \w+ is (nan|inf) at step [12] \(terms/"):
        run(experiment, tmp_path)
    assert not list((tmp_path / "checkpoints/seed_0/flyp").glob("[0-9]*"))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: setattr(e.finetune.training, "batch_size", 12),
            r"finetune.training.batch_size: got 12, expected a positive multiple of the 8 devices",
        ),
        (
            lambda e: setattr(e.methods["carot"], "trainable", ("encoder/imgae/.*",)),
            r"methods.carot.trainable: regex 'encoder/imgae/.\*' matches no parameter",
        ),
        (
            lambda e: setattr(e, "data_dir", "no_such_folder"),
            r"data set 'tiny_colours': no prepared TFDS folder in .* or no_such_folder",
        ),
        (
            lambda e: setattr(e.evaluation.id_split, "split", "tset"),
            r"got split 'tset'.*Did you mean 'test'",
        ),
        (
            lambda e: setattr(e.finetune, "class_names", ("red", "green", "blue")),
            r"1 of its 3 classes are not among the 3 class names, first 'dark blue'",
        ),
        (
            lambda e: setattr(e.finetune, "class_names", ("red", "green", "dark blue", "ochre")),
            r"finetune.class_names: 1 of the 4 are no class of tiny_colours\[test\], first 'ochre'",
        ),
        (
            lambda e: setattr(e.model.text, "vocab_size", 5),
            r"model.text.vocab_size: got 5, expected at least the \d+ words",
        ),
        (
            lambda e: setattr(e.model.text, "context_length", 4),
            r"model.text.context_length: got 4, expected at least the 8 tokens",
        ),
        (lambda e: setattr(e, "seeds", 3), r"config.seeds: got 3 of type int, expected tuple"),
        (
            lambda e: setattr(e, "fsdp", "two"),
            r"config.fsdp: got 'two' of type str, expected int",
        ),
        (
            lambda e: setattr(e.methods["carot"], "keeps", "teachr"),
            r"config.methods.carot.keeps: got 'teachr' of type str, expected 'student' or 'tea",
        ),
        (lambda e: setattr(e, "fsdp", 3), r"fsdp: got 3, expected a divisor of the 8 devices"),
        (
            lambda e: setattr(e.finetune.training, "batch_size", 32),
            r"finetune.training.batch_size: got 32, expected at most the 24 training images",
        ),
        (
            lambda e: setattr(e, "pretrained", "no_such_folder"),
            r"pretrained: got 'no_such_folder', expected a file or folder",
        ),
    ],
)
def test_mistakes_are_found_before_any_training(tiny_experiment, tmp_path, change, message):
    experiment = tiny_experiment()
    change(experiment)
    with pytest.raises(ConfigError, match=message):
        run(experiment, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / "config.json").exists()


def test_pretrained_weights_must_fit_the_model(from_pretrained, tmp_path):
    experiment = from_pretrained()
    experiment.model.embed_dim = 16
    with pytest.raises(ConfigError, match=r"holds another model: model.embed_dim: 16 -> 8"):
        run(experiment, tmp_path)


def test_words_that_the_pretrained_tokenizer_does_not_know(from_pretrained, tmp_path):
    experiment = from_pretrained()
    source = experiment.finetune.sources[0]
    experiment.finetune.sources = (Source(split=source.split, templates=("a painting of {}.",)),)
    with pytest.raises(ConfigError, match=r"does not know the word 'painting'"):
        run(experiment, tmp_path)


def test_export_is_the_pretrained_model(finished, from_pretrained, tmp_path):
    """The zero-shot row is the same from the run that pre-trained and from its exported folder."""
    results = run(
        from_pretrained(methods={"zero_shot": from_pretrained().methods["zero_shot"]}), tmp_path
    )
    expected = finished[2]["runs"][0]["metrics"]
    for name, metrics in results["runs"][0]["metrics"].items():
        for key, value in metrics.items():
            assert value == pytest.approx(expected[name][key], abs=1e-6), (name, key)
    assert jax.device_count() == 8


def test_a_damaged_evaluation_is_named(straight, tmp_path):
    experiment, workdir = straight
    shutil.copytree(workdir, tmp_path / "run")
    record = tmp_path / "run/evaluations/seed_0/carot.json"
    record.write_text(record.read_text()[:-20])
    with pytest.raises(DataError, match=r"carot.json: damaged .*Delete it to have it made again"):
        run(experiment, tmp_path / "run")


def test_a_checkpoint_holds_the_config(straight):
    experiment, workdir = straight
    meta = json.loads((workdir / "checkpoints/seed_0/carot/6/meta/metadata").read_text())
    assert meta["config"]["finetune"]["training"]["num_steps"] == 6
    assert meta["config"]["name"] == experiment.name


def test_a_corrupt_training_image_stops_the_run(from_pretrained, tiny_data, tmp_path):
    data_dir = tmp_path / "data"
    shutil.copytree(tiny_data, data_dir)
    (records,) = data_dir.rglob("*train.array_record*")
    content = bytearray(records.read_bytes())
    content[content.index(b"\x89PNG") + 200] ^= 1
    records.write_bytes(bytes(content))
    experiment = from_pretrained(
        data_dir=str(data_dir),
        methods={"flyp": flyp().scheduled(learning_rate=1e-3, warmup_steps=1)},
    )
    with pytest.raises(DataError, match=r"data set tiny_colours\[train\], record 0: "):
        run(experiment, tmp_path / "run")
