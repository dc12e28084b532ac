import pathlib

import pytest

from calib_jax import main as main_module
from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.main import main, parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs" / "quickstart.py")
BASE = ("calib_jax", "--config", CONFIG, "--workdir", "runs/x")


def test_overrides_reach_nested_fields():
    experiment, workdir = parse(
        (
            *BASE,
            "--config.methods.carot.terms.orthogonality.weight=0.3",
            "--config.methods.carot.terms.orthogonality.squared=true",
            "--config.seeds=0,1,2",
            "--config.finetune.training.num_steps=7",
            "--config.data_dir=elsewhere",
        )
    )
    assert workdir == pathlib.Path("runs/x")
    assert experiment.methods["carot"].terms["orthogonality"].weight == 0.3
    assert experiment.methods["carot"].terms["orthogonality"].squared is True
    assert experiment.seeds == (0, 1, 2)
    assert experiment.finetune.training.num_steps == 7
    assert experiment.data_dir == "elsewhere"


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


def test_a_failed_run_is_exit_code_1(monkeypatch, capsys):
    def fail(experiment, workdir):
        raise TrainingError("carot: loss is nan at step 5.")

    monkeypatch.setattr(main_module, "run", fail)
    assert main(BASE) == 1
    assert capsys.readouterr().err == "calib_jax: error: carot: loss is nan at step 5.\n"


def test_success_is_exit_code_0(monkeypatch):
    seen = []
    monkeypatch.setattr(main_module, "run", lambda *args: seen.append(args))
    assert main(BASE) == 0
    assert seen[0][0].name == "quickstart"


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(experiment, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "run", interrupt)
    assert main(BASE) == 130
    assert "The same command goes on from here" in capsys.readouterr().err


def test_help(capsys):
    assert main(("calib_jax", "--help")) == 0
    assert "--workdir" in capsys.readouterr().out
