"""Several experiments from one pre-trained model, end to end without a step of training."""

import copy
import json

import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.runs import study as study_module
from calib_jax.runs.study import Study, run_study
from calib_jax.runs.workdir import write_json

pytestmark = pytest.mark.usefixtures("one_device", "no_figures")


@pytest.fixture(scope="module")
def study(tiny_experiment, tiny_data):
    """Two experiments of two methods that are not trained."""
    methods = {"zero_shot": zero_shot(), "head": Method(classifier=LinearHead())}
    pretrain = tiny_experiment(methods={"zero_shot": zero_shot()}, data_dir="set by the study")
    pretrain.pretrain.training.num_steps = 2
    changes = {"model": None, "pretrain": None, "pretrain_method": None, "data_dir": "it too"}
    return Study(
        title="Two kinds of colours",
        pretrain=pretrain,
        experiments={
            "bright": tiny_experiment(methods=methods, title="Bright colours", **changes),
            "dark": tiny_experiment(methods=methods, title="Dark colours", **changes),
        },
        order=("head", "zero_shot", "carot"),
        baselines=("zero_shot",),
        data_dir=str(tiny_data),
    )


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """The folder of a study of which a part was run first, and what each command gave."""
    path = tmp_path_factory.mktemp("study")
    found = []
    for only in ("pretrain", "bright", ""):
        part = copy.deepcopy(study)
        part.only = only
        found.append(run_study(part, path))
    return path, found


def test_the_parts_make_one_study(finished):
    path, (first, second, whole) = finished
    assert first == second == {}
    assert json.loads((path / "study.json").read_text()) == whole
    assert list(whole["experiments"]) == ["bright", "dark"]
    assert whole["title"] == "Two kinds of colours"
    for name, experiment in whole["experiments"].items():
        assert [row["method"] for row in experiment["table"]] == ["zero_shot", "head"]
        config = json.loads((path / name / "results.json").read_text())["config"]
        assert config["pretrained"] == str(path / "pretrain/pretrained/seed_0")
        # A head that starts from the zero-shot one and is not trained.
        (row,) = experiment["paired"]["zero_shot"]
        assert row["ood_accuracy"]["mean"] == 0
    for report in ("report.html", "report.md"):
        text = (path / report).read_text()
        assert all(word in text for word in ("Bright colours", "Dark colours", "head"))


def test_a_finished_study_is_only_read(finished, study, monkeypatch):
    path, found = finished
    before = {file: file.read_bytes() for file in path.rglob("*.json")}
    ran, run = [], study_module.run

    def watched(experiment, folder):
        ran.append(folder.name)
        return run(experiment, folder)

    monkeypatch.setattr(study_module, "run", watched)
    assert run_study(study, path) == found[-1]
    assert ran == ["pretrain", "bright", "dark"]
    assert {file: file.read_bytes() for file in path.rglob("*.json")} == before


def test_what_is_missing_is_named(study, tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(study_module, "run", lambda experiment, folder: ran.append(folder.name))
    monkeypatch.setattr(study_module.Experiment, "validate", lambda self: None)
    part = copy.deepcopy(study)
    part.only = "dark"
    assert run_study(part, tmp_path) == {}
    assert ran == ["pretrain", "dark"]
    assert capsys.readouterr().out == "Not finished yet: bright, dark\n"
    assert not (tmp_path / "study.json").exists()


def test_a_model_of_another_config_is_refused(finished, study):
    other = copy.deepcopy(study)
    other.pretrain.pretrain_method.optimizer.learning_rate = 0.5
    # The tiny study trains for no step, and keeps no checkpoint: what has one is not replaced.
    checkpoints = finished[0] / "pretrain/checkpoints/seed_0/pretrain"
    checkpoints.mkdir(parents=True, exist_ok=True)
    message = r"pretrain: it holds a run of another config, .*pretrain_method.*learning_rate: "
    with pytest.raises(ConfigError, match=message):
        run_study(other, finished[0])


def test_experiments_from_two_models_are_not_compared(finished, study):
    path, _ = finished
    file = path / "dark" / "results.json"
    content = file.read_text()
    results = json.loads(content)
    results["config"]["pretrained_weights_crc32"] += 1
    write_json(file, results)
    study = copy.deepcopy(study)
    study.only = "bright"  # the other would be evaluated anew
    message = r"its experiments started from 2 different models, expected one. Choose another"
    try:
        with pytest.raises(ConfigError, match=message):
            run_study(study, path)
    finally:
        write_json(file, json.loads(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: setattr(s, "experiments", {}), r"experiments: got none, expected at least one"),
        (
            lambda s: s.experiments.update(pretrain=s.pretrain),
            r"experiments: got bright, dark, pretrain, expected at least one, and none called 'pre",
        ),
        (
            lambda s: setattr(s, "only", "brihgt"),
            r"only: got 'brihgt', expected one of pretrain, bright, dark. Did you mean 'bright'",
        ),
        (
            lambda s: setattr(s.pretrain, "seeds", (0, 1)),
            r"pretrain.seeds: got \(0, 1\), expected one: all experiments start from the same",
        ),
        (
            lambda s: setattr(s, "baselines", ("zero_shto",)),
            r"baselines: got 'zero_shto', which is no method of experiments.bright. Did you mean",
        ),
        (lambda s: setattr(s, "processes", 0), r"processes: got 0, expected 1, or more on a CPU"),
        (lambda s: setattr(s, "only", 3), r"config.only: got 3 of type int, expected str"),
    ],
)
def test_mistakes_are_found_first(study, tmp_path, change, message):
    wrong = copy.deepcopy(study)
    change(wrong)
    with pytest.raises(ConfigError, match=message):
        run_study(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_processes_need_a_cpu(study, monkeypatch):
    two = copy.deepcopy(study)
    two.processes = 2
    two.validate()
    monkeypatch.setattr(study_module.jax, "default_backend", lambda: "gpu")
    with pytest.raises(ConfigError, match=r"processes: got 2, expected 1, .* \(here: gpu\)"):
        two.validate()


def test_processes_need_a_config_that_can_be_sent(study, tmp_path):
    """What `runpy` has made of a config file belongs to no module."""
    wrong = copy.deepcopy(study)
    wrong.processes = 2
    own = type("Own", (Contrastive,), {"__module__": "config"})
    wrong.experiments["bright"].methods["own"] = Method(classifier=ZeroShot(), terms={"own": own()})
    message = (
        r"processes: got 2, but experiments.bright cannot be sent to another process \(.*config.*"
        r"\)\. Move what the config file itself defines into a module that it imports, or set proc"
    )
    with pytest.raises(ConfigError, match=message):
        run_study(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_an_experiment_is_found_before_the_pretraining(study, tmp_path):
    wrong = copy.deepcopy(study)
    wrong.experiments["dark"].seeds = ()
    with pytest.raises(ConfigError, match=r"seeds: got \(\), expected distinct numbers"):
        run_study(wrong, tmp_path)
    assert not list(tmp_path.iterdir())
