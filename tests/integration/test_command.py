"""The command as a person starts it: exit codes, one line, no stack trace."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.robust import flyp

CONFIG = """
import os
import pathlib
import pickle
import time

from calib_jax.training.checkpoints import Checkpoints


def slow(checkpoints):
    (checkpoints.directory / "saving").touch()
    time.sleep(float(os.environ["SECONDS_TO_SAVE"]))


def get_config():
    if "SECONDS_TO_SAVE" in os.environ:
        Checkpoints.wait = slow
    return pickle.loads(pathlib.Path(__file__).with_suffix(".pickle").read_bytes())
"""


@pytest.fixture
def config(tiny_experiment, tmp_path):
    """A config file of the tiny experiment, with the zero-shot method alone."""
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    experiment = tiny_experiment(methods={"zero_shot": zero_shot()})
    path.with_suffix(".pickle").write_bytes(pickle.dumps(experiment))
    return path


@contextlib.contextmanager
def started(*arguments, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "calib_jax.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_of() | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process, condition):
    while not condition() and process.poll() is None:
        time.sleep(0.02)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "calib_jax.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment_of(),
        timeout=240,
    )


def environment_of():
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "COLUMNS": "100"}


def test_a_run_from_the_shell(config, tmp_path):
    workdir = tmp_path / "run"
    done = command("--config", config, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "zero_shot" in done.stdout
    assert "pretrain, seed 0: 4 steps in 0:0" in done.stderr
    assert "evaluate zero_shot, seed 0: 38 images in 0:0" in done.stderr
    assert "\r" not in done.stderr and max(map(len, done.stderr.splitlines())) < 120
    assert (workdir / "report.html").stat().st_size > 10_000
    other = command("--config", config, "--workdir", workdir, "--config.evaluation.num_examples=1")
    assert other.returncode == 0, other.stderr
    said = "evaluation.num_examples: 3 -> 1: the finished models are evaluated again, not trained"
    assert said in other.stdout
    option = "--config.pretrain.training.num_steps=5"
    other = command("--config", config, "--workdir", workdir, option)
    assert other.returncode == 2
    assert "1 field differs: pretrain.training.num_steps: 4 -> 5" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.evaluation.scroe=msp"], "has no field 'scroe'. Did you mean 'score'"),
        (["--config.data_dir=nowhere"], "no prepared TFDS folder in"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(config, tmp_path, arguments, message):
    done = command("--config", config, "--workdir", tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_stopped_run_goes_on(from_pretrained, config, tmp_path):
    """SIGTERM saves; two signals while it saves leave what was saved; then it is finished."""
    method = flyp().scheduled(learning_rate=1e-3, warmup_steps=1)
    experiment = from_pretrained(methods={"flyp": method})
    training, num_steps = experiment.finetune.training, 200
    training.num_steps, training.log_every, training.checkpoint_every = num_steps, 5, num_steps
    config.with_suffix(".pickle").write_bytes(pickle.dumps(experiment))
    workdir = tmp_path / "run"
    arguments = (f"--config={config}", f"--workdir={workdir}")
    kept, history = workdir / "checkpoints" / "seed_0" / "flyp", workdir / "metrics.jsonl"

    def rows():
        return len(history.read_text().splitlines()) if history.exists() else 0

    with started(*arguments) as process:
        wait_for(process, lambda: rows() >= 2)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 143, error
    assert error.splitlines()[-1] == (
        "calib_jax: stopped by SIGTERM. The same command goes on from here: "
        f"python -m calib_jax.main {' '.join(arguments)}"
    )
    assert "Traceback" not in error
    (saved,) = (int(path.name) for path in kept.glob("[0-9]*"))
    assert 10 <= saved < num_steps
    assert f"flyp, seed 0: step {saved} of {num_steps} after" in error

    with started(*arguments, SECONDS_TO_SAVE="60") as process:
        before = rows()
        wait_for(process, lambda: rows() > before)
        process.send_signal(signal.SIGINT)
        wait_for(process, (kept / "saving").exists)
        time.sleep(0.6)
        process.send_signal(signal.SIGHUP)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 129, error
    assert error.splitlines()[-1] == (
        "calib_jax: ended at once by SIGHUP. The same command goes on from what was saved."
    )
    assert "Traceback" not in error and f"flyp, seed 0: step {saved} of {num_steps}" in error
    assert (kept / str(saved)).exists()
    (kept / "saving").unlink()

    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in history.read_text().splitlines()]
    assert steps == list(range(5, num_steps + 1, 5))
