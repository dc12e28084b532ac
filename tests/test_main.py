import json
import os
import pathlib
import pickle
import sys

import jax
import pytest
from jax._src.lru_cache import LRUCache

from calib_jax.core.errors import TrainingError
from calib_jax.main import RUNNERS, main
from calib_jax.methods.baselines import zero_shot
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.study import Study
from calib_jax.theory.experiment import Theory

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs" / "quickstart.py")
BASE = ("calib_jax", "--config", CONFIG, "--workdir", "runs/x")


@pytest.fixture(autouse=True)
def import_path(monkeypatch):
    """What a config adds to it is taken off again."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_failed_run_is_exit_code_1(monkeypatch, capsys):
    def fail(experiment, workdir):
        raise TrainingError("carot: loss is nan at step 5.")

    monkeypatch.setitem(RUNNERS, Experiment, fail)
    assert main(BASE) == 1
    assert capsys.readouterr().err == "calib_jax: error: carot: loss is nan at step 5.\n"


def test_success_is_exit_code_0(monkeypatch):
    seen = []
    monkeypatch.setitem(RUNNERS, Experiment, lambda *args: seen.append(args))
    assert main(BASE) == 0
    assert seen[0][0].name == "quickstart"


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(experiment, workdir):
        raise KeyboardInterrupt

    monkeypatch.setitem(RUNNERS, Experiment, interrupt)
    assert main(BASE) == 130
    assert "The same command goes on from here" in capsys.readouterr().err


CONTENT = """
import pathlib
import pickle


def get_config():
    return pickle.loads(pathlib.Path(__file__).with_suffix(".pickle").read_bytes())
"""


def command(config, folder, *overrides):
    """A command line that runs this config."""
    path = folder / "config.py"
    path.write_text(CONTENT)
    path.with_suffix(".pickle").write_bytes(pickle.dumps(config))
    return ("calib_jax", f"--config={path}", f"--workdir={folder / 'run'}", *overrides)


def test_a_study_is_run(tiny_experiment, tiny_data, tmp_path, capsys):
    """Here a part of it: the pre-training, which makes two steps."""
    alone = {"methods": {"zero_shot": zero_shot()}}
    first = tiny_experiment(**alone)
    first.pretrain.training.num_steps = 2
    second = tiny_experiment(**alone, model=None, pretrain=None, pretrain_method=None)
    study = Study(
        title="Tiny", pretrain=first, experiments={"colours": second}, order=(), baselines=()
    )
    overrides = ("--config.only=pretrain", f"--config.data_dir={tiny_data}")
    assert main(command(study, tmp_path, *overrides)) == 0
    assert "Not finished yet: colours" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == ["pretrain"]
    assert main(command(study, tmp_path, "--config.only=colors")) == 2
    assert "only: got 'colors', expected one of pretrain, colours. Did you mean 'colours'" in (
        capsys.readouterr().err
    )


def test_a_theory_is_run(tmp_path):
    theory = Theory(
        dims=(2, 2, 2),
        num_train=8,
        num_test=9,
        widths=(4, 2),
        batch_size=4,
        num_steps=2,
        self_distillation=(1.0,),
        orthogonality=(1.0,),
        seeds=(0,),
    )
    assert main(command(theory, tmp_path, "--config.seeds=3")) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [model["seed"] for model in results["models"]] == [3] * 4


@pytest.fixture
def cache_of(monkeypatch, tmp_path):
    """A function: what an uncached command tells JAX, its home being a folder of the test."""
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        monkeypatch.setenv(name, "")  # what the command sets is undone
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setitem(RUNNERS, Experiment, lambda *args: None)

    def run(**environment):
        seen = {}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(type(jax.config), "update", lambda self, *item: seen.update([item]))
        assert main(("calib_jax", "--config", CONFIG, f"--workdir={tmp_path / 'run'}")) == 0
        return seen

    return run


def test_what_is_compiled_is_kept_for_the_user(cache_of, tmp_path, capsys):
    folder = tmp_path / "home" / ".cache" / "calib_jax" / "compiled"
    assert cache_of() == {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": 2**30,
    }
    assert folder.is_dir() and not (tmp_path / "run" / "compiled").exists()
    # The processes that it starts know it.
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(2**30)
    assert "cannot be written" not in capsys.readouterr().err


def test_an_entry_that_a_kill_left_half_written_goes(cache_of, tmp_path):
    """With it JAX's bounded cache would keep nothing any more."""
    folder = tmp_path / "home" / ".cache" / "calib_jax" / "compiled"
    folder.mkdir(parents=True)
    for name in ("whole-cache", "whole-atime", "half-cache"):
        (folder / name).write_bytes(bytes(8))
    with pytest.raises(FileNotFoundError, match="half-atime"):
        LRUCache(str(folder), max_size=100).put("new", b"program")
    cache_of()
    assert {path.name for path in folder.iterdir()} >= {"whole-cache", "whole-atime"}
    LRUCache(str(folder), max_size=100).put("new", b"program")
    assert not (folder / "half-cache").exists() and (folder / "new-cache").exists()


def test_the_environment_names_another_cache(cache_of, tmp_path):
    assert cache_of(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == {}
    assert not (tmp_path / "home").exists()


def test_without_a_folder_for_the_cache_the_run_works(cache_of, tmp_path, capsys):
    (tmp_path / "home" / ".cache").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "calib_jax").write_text("a file")
    assert cache_of() == {}
    assert capsys.readouterr().err == (
        "calib_jax: ~/.cache/calib_jax/compiled cannot be written (Not a directory): every run "
        "will compile anew. Set JAX_COMPILATION_CACHE_DIR to a folder that can.\n"
    )
    assert not os.environ["JAX_COMPILATION_CACHE_DIR"]


def test_help(capsys):
    assert main(("calib_jax", "--help")) == 0
    assert "--workdir" in capsys.readouterr().out
