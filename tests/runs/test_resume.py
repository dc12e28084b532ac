"""What ends a training: a stop, a NaN, a damaged image; and how it goes on."""

import json
import pathlib
import shutil
import signal

import numpy as np
import pytest

from calib_jax.core import progress, signals
from calib_jax.core.errors import DataError, TrainingError
from calib_jax.core.progress import Work
from calib_jax.core.sharding import to_devices
from calib_jax.core.signals import Stopped
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.robust import carot, flyp
from calib_jax.runs.run import run
from calib_jax.training import loop

pytestmark = pytest.mark.usefixtures("two_devices", "no_figures")


class Killed(Exception):
    """Stands for whatever ends a process."""


def stop_at(monkeypatch, number):
    """The training stops when it takes its batch of that number."""
    original = loop.to_devices
    calls = []

    def stopping(batch, mesh):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return original(batch, mesh)

    monkeypatch.setattr(loop, "to_devices", stopping)
    return lambda: monkeypatch.setattr(loop, "to_devices", original)


def signal_at(monkeypatch, number, name):
    """A command's training gets the signal when it takes its batch of that number."""
    original = loop.to_devices
    calls = []

    def signalling(batch, mesh):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(getattr(signal, name))
        return original(batch, mesh)

    monkeypatch.setattr(loop, "to_devices", signalling)
    return lambda: monkeypatch.setattr(loop, "to_devices", original)


def saved_arrays(directory: pathlib.Path):
    """The newest checkpoint's checksums: equal only for bit-equal states."""
    newest = max((p for p in directory.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    meta = json.loads((newest / "meta" / "metadata").read_text())
    return newest.name, meta["checksums"], meta["iterator"]


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
    with pytest.raises(Killed):
        run(experiment, tmp_path)
    go_on()
    run(experiment, tmp_path)
    directory = pathlib.Path("checkpoints/seed_0/carot")
    assert saved_arrays(tmp_path / directory) == saved_arrays(expected / directory)
    assert rows_of(tmp_path, "carot") == rows_of(expected, "carot")


take = progress.Board.plan


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "SIGTERM"), (2, "SIGHUP"), (5, "SIGINT"), (6, "SIGTERM")],
)
def test_a_signal_loses_no_step(straight, tmp_path, monkeypatch, number, name):
    """The step is finished and saved, also between two rows; then as without the signal."""
    experiment, expected = straight
    go_on = signal_at(monkeypatch, number, name)
    with pytest.raises(Stopped), signals.handled():
        run(experiment, tmp_path)
    directory = pathlib.Path("checkpoints/seed_0/carot")
    assert saved_arrays(tmp_path / directory)[0] == str(number)
    go_on()
    calls, boards = [], []
    monkeypatch.setattr(loop, "to_devices", lambda *a: calls.append(1) or to_devices(*a))
    monkeypatch.setattr(
        progress.Board, "plan", lambda self, plan: boards.append((self, plan)) or take(self, plan)
    )
    run(experiment, tmp_path)
    assert len(calls) == 6 - number
    # What was left to be done was known before, and all of it is done.
    steps = {"carot, seed 0": Work("step", 6 - number)} if number < 6 else {}
    images = {"evaluate carot, seed 0": Work("image", 38)}
    assert [plan for _, plan in boards] == [steps | images] * 2
    assert boards[0][0].seconds_left() == (0.0, False)
    assert saved_arrays(tmp_path / directory) == saved_arrays(expected / directory)
    assert rows_of(tmp_path, "carot") == rows_of(expected, "carot")


def test_a_stopped_pretraining_goes_on(tiny_experiment, tmp_path, monkeypatch):
    experiment = tiny_experiment(methods={"zero_shot": zero_shot()})
    expected, stopped = tmp_path / "expected", tmp_path / "stopped"
    run(experiment, expected)
    go_on = stop_at(monkeypatch, 4)
    with pytest.raises(Killed):
        run(experiment, stopped)
    assert saved_arrays(stopped / "checkpoints/seed_0/pretrain")[0] == "3"
    go_on()
    run(experiment, stopped)
    exported = "pretrained/seed_0/model.safetensors"
    assert (stopped / exported).read_bytes() == (expected / exported).read_bytes()
    assert rows_of(stopped, "pretrain") == rows_of(expected, "pretrain")


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
