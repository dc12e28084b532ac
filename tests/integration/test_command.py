"""The command as a person starts it: exit codes, one line, no stack trace."""

import os
import pickle
import subprocess
import sys

import pytest

from calib_jax.methods.baselines import zero_shot

CONFIG = """
import pathlib
import pickle


def get_config():
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


def command(*arguments):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "calib_jax.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )


def test_a_run_from_the_shell(config, tmp_path):
    workdir = tmp_path / "run"
    done = command("--config", config, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "zero_shot" in done.stdout
    assert "pretrain: 100%" in done.stderr
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
