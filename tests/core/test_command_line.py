"""The command line: configs that are loaded, and overrides of their fields."""

import functools
import pathlib
import re
import sys

import pytest

from calib_jax.core import command_line
from calib_jax.core.errors import ConfigError
from calib_jax.main import RUNNERS, main

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "quickstart.py")
BASE = ("calib_jax", "--config", CONFIG, "--workdir", "runs/x")

parse = functools.partial(command_line.parse, kinds=RUNNERS)


def test_the_workdir_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse((*BASE[:3], "--workdir=~/x"))[1] == tmp_path / "x"
    with pytest.raises(ConfigError, match="--workdir: got '~nobodyx/x', expected the home folder"):
        parse((*BASE[:3], "--workdir=~nobodyx/x"))


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_workdir_is_not_the_current_folder(value):
    with pytest.raises(ConfigError, match=rf"^--workdir: got '{value}', expected a folder\. Give"):
        parse((*BASE[:3], f"--workdir={value}"))


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


def test_a_config_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("def get_config():\n    return {}\n")
    message = r"gives dict, expected Experiment or Study or Theory or PredictionFiles"
    with pytest.raises(ConfigError, match=message):
        parse(("calib_jax", f"--config={path}", "--workdir=x"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a photo of a {}, a type of pet.", ("a photo of a {}, a type of pet.",)),
        ("itap, a {}", ("itap, a {}",)),
        ("a {},the {}", ("a {}", "the {}")),
        ("'a {}, a pet','the {}'", ("a {}, a pet", "the {}")),
    ],
)
def test_templates_may_have_commas(value, expected):
    experiment, _ = parse((*BASE, f"--config.evaluation.templates={value}"))
    assert experiment.evaluation.templates == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "evaluation.templates=a {}, a pet,the {}",
            r"command line: .*a comma cuts a word, .* as in \"'a','b,c'\"\. Correct the value\.",
        ),
        (
            "finetune.sources.0.templates=a {}",
            r"--config\S*\.0\.templates: config\.finetune\.sources is a tuple of 1, "
            r"whose items have no place on the command line\. Change it in the config file\.",
        ),
        (
            "tuning.metric=nll",
            r"--config\.tuning\.metric: config\.tuning is not set \(None\), so that it has no f.* "
            r"'metric'\. Set it in the config file first, as in tuning=Tuning\(\.\.\.\)\.",
        ),
        (
            "methods=finetune",
            r"--config\.methods: got 'finetune', but it is no single value: it has zero_shot, finet"
            r"une, flyp, carot\. Set one of them, as in --config\.methods\.zero_shot\.FIELD=V.* "
            r"or change the config file\.",
        ),
        (
            "methods.carot.terms.contrastive=1.5",
            r"--config\..*: got '1\.5', but .* as in --config\.\S*\.contrastive\.weight=VALUE",
        ),
        (
            "methods.carot.teacher=fast",
            r"--config\.methods\.carot\.teacher: got 'fast', but it is no single value: it has ini",
        ),
        (
            "methods.flyp.teacher=ema",
            r"--config\.methods\.flyp\.teacher: no value of its type can be set from .*"
            r"\. Change it in the config file\.",
        ),
        (
            "name.first=x",
            r"--config\.name\.first: config\.name is a value, 'quickstart', and has no fields\.",
        ),
        (
            "evaluation.keep_predictions=maybe",
            r"command line: flag --config\.evaluation\.keep_predictions=maybe: Non-boolean "
            r"argument to boolean flag\. Correct the value\.",
        ),
    ],
)
def test_what_cannot_be_set_is_one_line_in_our_words(override, message):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        parse((*BASE, f"--config.{override}"))
    assert "\n" not in str(caught.value) and "dict_keys" not in str(caught.value)


def test_a_validation_split_that_is_not_set_says_how_to_set_it():
    experiment, _ = parse((*BASE, "--config.evaluation.validation=none"))
    assert experiment.evaluation.validation is None
    evaluate = ("calib_jax", "--config", f"{ROOT}/configs/evaluate.py:pets", "--workdir", "runs/x")
    message = r"validation is not set .* in the config file first, as in validation=Split\(\.\.\.\)"
    with pytest.raises(ConfigError, match=message):
        parse((*evaluate, "--config.evaluation.validation.split=x"))
