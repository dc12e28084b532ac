import json
import os
import pathlib
import pickle
import re
import sys

import jax
import pytest
from jax._src.lru_cache import LRUCache

from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.main import RUNNERS, main, parse
from calib_jax.methods.baselines import zero_shot
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.study import Study
from calib_jax.theory.experiment import Theory

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs" / "quickstart.py")
BASE = ("calib_jax", "--config", CONFIG, "--workdir", "runs/x")


def test_the_workdir_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse((*BASE[:3], "--workdir=~/x"))[1] == tmp_path / "x"
    with pytest.raises(ConfigError, match="--workdir: got '~nobodyx/x', expected the home folder"):
        parse((*BASE[:3], "--workdir=~nobodyx/x"))


def test_overrides_reach_nested_fields():
    experiment, workdir = parse(
        (
            *BASE,
            "--config.methods.carot.terms.orthogonality.weight=0.3",
            "--config.methods.carot.terms.orthogonality.squared=true",
            "--config.seeds=0,1,2",
            "--config.finetune.training.num_steps=7",
            "--config.data_dir=elsewhere",
            "--config.evaluation.scores.mcm.temperature=0.5",
        )
    )
    scores = experiment.evaluation.scores
    assert (scores["mcm"].temperature, scores["energy"].temperature) == (0.5, 1.0)
    assert list(scores) == ["msp", "max_logit", "energy", "mcm", "max_similarity"]
    assert workdir == pathlib.Path("runs/x")
    assert experiment.methods["carot"].terms["orthogonality"].weight == 0.3
    assert experiment.methods["carot"].terms["orthogonality"].squared is True
    assert experiment.seeds == (0, 1, 2)
    assert experiment.finetune.training.num_steps == 7
    assert experiment.data_dir == "elsewhere"


def test_choices_are_overridden_by_their_names():
    experiment, _ = parse((*BASE, "--config.methods.carot.keeps=teacher"))
    assert experiment.methods["carot"].keeps == "teacher"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("carot",), ("carot",)),
        (("finetune,carot",), ("finetune", "carot")),
        (("finetune, carot,",), ("finetune", "carot")),
        (("'finetune','carot'",), ("finetune", "carot")),
        (("('finetune', 'carot')",), ("finetune", "carot")),
        (("['carot']",), ("carot",)),
        (("'a,b'",), ("a,b",)),
        (("finetune", "carot"), ("finetune", "carot")),
        (("image/.*,text/.*",), ("image/.*", "text/.*")),
        (("1,None",), ("1", "None")),
        (("{[]}",), ("{[]}",)),
        (("a cat's {},a dog's {}",), ("a cat's {}", "a dog's {}")),
        (("the cats' {}",), ("the cats' {}",)),
        ((r"a\(,b",), (r"a\(", "b")),
        (("'a','b,c'",), ("a", "b,c")),
        (("'block_[0-9]{1,2}'",), ("block_[0-9]{1,2}",)),
        (("",), ()),
        (("()",), ()),
    ],
)
def test_words_need_no_quotes(values, expected):
    experiment, _ = parse((*BASE, *(f"--config.export.curves={value}" for value in values)))
    assert experiment.export.curves == expected


@pytest.mark.parametrize("value", ['a,"b,c"', "a,'b'", "block_[0-9]{1,2}", "f(a,b)", "say 'a, b'"])
def test_words_that_a_comma_cuts_are_refused(value):
    message = rf"curves={re.escape(value)}: .*Quote each word, .* as in \"'a','b,c'\"\. Correct the"
    with pytest.raises(ConfigError, match=message):
        parse((*BASE, f"--config.export.curves={value}"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            (*BASE, "--config.methods.karot.trainable=a"),
            r"config.methods has no field 'karot'. Did you mean 'carot'",
        ),
        (
            (*BASE, "--config.methods.carot.terms.orthogonality.wight=1"),
            r"config.methods.carot.terms.orthogonality has no field 'wight'. Did you mean 'weight'",
        ),
        (
            (*BASE, "--config.finetune.training.num_steps=many"),
            r"config.finetune.training.num_steps=many",
        ),
        (("calib_jax", "--workdir", "x"), r"--config: missing"),
        (("calib_jax", "--config", CONFIG), r"--workdir: missing"),
        ((*BASE, "extra"), r"command line: got 'extra'"),
        ((*BASE, "--config.name=x", "extra"), r"command line: got 'extra'"),
        (
            (*BASE, "--config.name", "clean=test.npz"),
            r"got --config.name clean=test.npz, expected --config.FIELD=VALUE. "
            r"Write --config.name=clean=test.npz.$",
        ),
        ((*BASE, "--wrokdir=x"), r"wrokdir"),
        (
            ("calib_jax", "--config", "configs/nothing.py", "--workdir", "x"),
            r"--config: configs/nothing.py cannot be loaded \(FileNotFoundError",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(argv, message, capsys):
    with pytest.raises(ConfigError, match=message):
        parse(argv)
    assert main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("calib_jax: error: ")


def test_a_config_that_breaks_is_named(tmp_path):
    path = tmp_path / "broken.py"
    for text in (
        "def get_config():\n    return 3\n",
        "def get_config():\n    raise ValueError('no')\n",
        "def get_config(:\n",
        "import no_such_module\n",
        "x = 1\n",
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"--config: .*broken.py.*(cannot be|gives int)"):
            parse(("calib_jax", f"--config={path}", "--workdir=x"))


@pytest.fixture(autouse=True)
def import_path(monkeypatch):
    """What a config adds to it is taken off again."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_config_imports_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("def steps(start):\n    return start + 1\n")
    path = tmp_path / "mine.py"
    path.write_text(
        "import dataclasses\n\nimport beside_it\n"
        "from configs.quickstart import get_config as base\n\n\ndef get_config():\n"
        "    return dataclasses.replace(base(), name=str(beside_it.steps(1)))\n"
    )
    for _ in range(2):
        experiment, _ = parse(("calib_jax", f"--config={path}", "--workdir=x"))
    assert experiment.name == "2"
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_module",
            r"\(ModuleNotFoundError: No module named 'no_such_module'\)\. Install that module, put "
            r"it beside the file, or run from the folder it is in\.$",
        ),
        (
            "from calib_jax.runs.study import Studdy",
            r"\(ImportError: cannot import name 'Studdy' from .*\)\. Correct the import\.$",
        ),
        ("x = 1", r"\(KeyError: 'get_config'\)\. It must be a Python file with get_config\(\)\.$"),
    ],
)
def test_what_a_config_cannot_import(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"^--config: .*mine\.py cannot be loaded {message}"):
        parse(("calib_jax", f"--config={path}", "--workdir=x"))


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
    """Here a part of it: the pre-training, which makes no step."""
    alone = {"methods": {"zero_shot": zero_shot()}}
    first = tiny_experiment(**alone)
    first.pretrain.training.num_steps = 0
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


def test_a_config_of_another_kind_is_refused(tmp_path):
    message = r"gives dict, expected Experiment or Study or Theory or PredictionFiles"
    with pytest.raises(ConfigError, match=message):
        parse(command({"seeds": 3}, tmp_path))


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
