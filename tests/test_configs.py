"""Every shipped config parses and validates; every field of a config is read somewhere."""

import ast
import dataclasses
import importlib.util
import math
import pathlib
import re
import sys

import pytest

from calib_jax import main
from calib_jax.core import command_line, settings
from calib_jax.core.errors import ConfigError
from calib_jax.data.datasets import pacs
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.study import Study

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZES = {"cifar10": 50_000}
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.py") if "def get_config" in path.read_text()
)
# Where `python -m calib_jax.main` from the root looks too: the study's files import each other.
sys.path.insert(0, str(ROOT))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def experiments_of(config):
    """The experiments of a config of any kind."""
    if isinstance(config, Study):
        return [config.pretrain, *config.experiments.values()]
    return [config] if isinstance(config, Experiment) else []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_validates(path):
    config = load(path).get_config()
    if not isinstance(config, Experiment):
        config.validate()
    for experiment in experiments_of(config):
        experiment.validate()
        assert settings.to_dict(experiment)["name"] == experiment.name
    assert len(path.read_text().splitlines()) <= 90


def test_the_study_compares_every_method_with_as_many_trials():
    study = load(ROOT / "configs" / "study" / "study.py").get_config()
    for experiment in study.experiments.values():
        assert set(study.order) | set(study.baselines) <= set(experiment.methods)
        untuned = set(experiment.methods) - set(experiment.tuning.trials)
        assert untuned == {"zero_shot", "linear_probe"}
        assert {len(trials) for trials in experiment.tuning.trials.values()} == {4}
        assert experiment.seeds == (0, 1, 2)


def test_variants():
    module = load(ROOT / "configs" / "quickstart.py")
    everything = module.get_config()
    assert list(everything.methods) == ["zero_shot", "finetune", "flyp", "carot"]
    one = module.get_config("carot")
    assert one.methods == {"carot": everything.methods["carot"]}
    tune = module.get_config("tune")
    tune.validate()
    trials = tune.tuning.trials
    assert list(trials) == ["finetune", "flyp", "carot"]
    for of_method in trials.values():
        rates = {name: method.optimizer.learning_rate for name, method in of_method.items()}
        assert rates == {"0.0001": 1e-4, "0.0003": 3e-4, "0.001": 1e-3, "0.003": 3e-3}
    assert trials["carot"]["0.001"].teacher == everything.methods["carot"].teacher
    with pytest.raises(ConfigError, match="got variant 'karot', expected one of .*'carot'"):
        module.get_config("karot")


def span(split):
    """(data set, split, first index, index behind the last) of `train[:45000]` or `train[:90%]`."""
    base, start, stop = re.fullmatch(r"(\w+)(?:\[(\d*%?):(\d*%?)\])?", split.split).groups()

    def index(text):
        return int(text[:-1]) * SIZES[split.name] // 100 if text.endswith("%") else int(text)

    return split.name, base, index(start or "0"), index(stop) if stop else math.inf


def trained_on(experiment):
    stages = [stage for stage in (experiment.pretrain, experiment.finetune) if stage is not None]
    return [source.split for stage in stages for source in stage.sources]


def evaluated_on(experiment):
    evaluation = experiment.evaluation
    return [*evaluation.labelled().values(), *evaluation.unknown().values()]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_trained_on_what_is_evaluated_on(path):
    """Of all configs together: one may start from the weights that another has trained."""
    tested = [s for e in experiments_of(load(path).get_config()) for s in evaluated_on(e)]
    others = [e for other in CONFIGS for e in experiments_of(load(other).get_config())]
    for trained in (split for other in others for split in trained_on(other)):
        name, base, start, stop = span(trained)
        assert base == "train" or trained.share == pacs.TRAIN
        for split in (split for split in tested if span(split)[:2] == (name, base)):
            first, last = span(split)[2:]
            is_other = last <= start or stop <= first
            low, high = split.share
            assert is_other or high <= trained.share[0] or trained.share[1] <= low, (trained, split)


def test_the_study_holds_images_out():
    study = load(ROOT / "configs" / "study" / "study.py").get_config()
    pretrain, cifar10, _ = experiments_of(study)
    for split in (*trained_on(pretrain), *trained_on(cifar10)):
        if split.name == "cifar10":
            assert span(split) == ("cifar10", "train", 0, 45_000)
    assert span(cifar10.evaluation.validation) == ("cifar10", "train", 45_000, 47_000)


def test_the_sample_of_imagenet_needs_no_weights():
    module = load(ROOT / "configs" / "imagenet" / "zero_shot.py")
    sample = module.get_config("sample")
    sample.validate()
    assert sample.pretrained == "" and sample.model is not None
    assert not any(phase.method.terms for phase in sample.phases())
    assert len(sample.finetune.class_names) == 1000
    assert len(sample.evaluation.templates) == 80
    with pytest.raises(ConfigError, match="got variant 'smaple', expected sample"):
        module.get_config("smaple")


def leaves(value, path="config"):
    """(flag, value) of every number, text and switch of a config."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key.isidentifier():
                yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, (bool, int, float, str)):
        yield path, value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_number_text_and_switch_can_be_set(path):
    flags = [f"--{name}={value}" for name, value in leaves(load(path).get_config())]
    assert len(flags) >= 10
    config, _ = command_line.parse(["x", f"--config={path}", "--workdir=w", *flags], main.RUNNERS)
    assert config == load(path).get_config()


def config_classes(value, found):
    """Every dataclass reachable from a config."""
    if dataclasses.is_dataclass(value):
        found.add(type(value))
        for field in dataclasses.fields(value):
            config_classes(getattr(value, field.name), found)
    elif isinstance(value, dict):
        for item in value.values():
            config_classes(item, found)
    elif isinstance(value, tuple):
        for item in value:
            config_classes(item, found)
    return found


def test_every_field_is_read_somewhere():
    read = {
        node.attr
        for path in (ROOT / "calib_jax").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    classes = set()
    for path in CONFIGS:
        config_classes(load(path).get_config(), classes)
    assert len(classes) > 10
    unread = [
        f"{kind.__name__}.{field.name}"
        for kind in classes
        for field in dataclasses.fields(kind)
        if field.name not in read
    ]
    assert not unread
