"""Every number of every config class, set to what cannot be meant: refused before any work.

A new field is found by itself. What is accepted stands in a table here, for a reason.
"""

import copy
import dataclasses
import math

import numpy as np
import pytest

from calib_jax.calibrators.ensemble import EnsembleTemperatureScaling
from calib_jax.calibrators.histogram import OneVsRestBinning, TopLabelBinning
from calib_jax.calibrators.scaling import DirichletScaling, MatrixScaling, VectorScaling
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core import settings
from calib_jax.core.errors import ConfigError
from calib_jax.methods import baselines, compositions, probes, robust
from calib_jax.methods.softened_distillation import softened_distillation
from calib_jax.metrics.robustness import Trend
from calib_jax.models.config import ResNetConfig
from calib_jax.objectives.spectral import SmallestSingularValue
from calib_jax.runs.experiment import Tuning
from calib_jax.runs.predictions import PredictionFiles
from calib_jax.theory.experiment import Theory
from calib_jax.weight_space.rows import ModelStock, Soup, Tpgm, WiseFT

HOSTILE = {float: (math.nan, math.inf, -math.inf, -1.0, 0.0), int: (-(10**20), -1, 0, 10**20)}

SHARES = ("b1", "b2", "initial_momentum", "final_momentum", "ramp_fraction", "flip_rate")
STRENGTHS = ("weight_decay", "clip_norm", "intercept", "off_diagonal", "label_smoothing", "head")
ACCEPTED = {
    # Without the part, or with none of it.
    **dict.fromkeys((*SHARES, *STRENGTHS, "weight", "wise_ft", "alphas", "share"), {0.0}),
    **dict.fromkeys(("warmup_steps", "start_step", "num_examples", "num_resamples"), {0}),
    ("Experiment", "image_size"): {0},  # the model's own
    "seeds": {0},
    # Any finite number means something.
    **dict.fromkeys(("slope", ("Trend", "intercept"), "pixel_mean"), {-1.0, 0.0}),
}
"""The values that a field may have, whatever its class."""


def methods():
    """Every recipe that ships, and every term that is in none."""
    made = {
        "carot": robust.carot(update_every=2),
        "tracer": robust.tracer(),
        "starft": robust.starft(),
        "dive": robust.dive(),
        "zero_shot": baselines.zero_shot(),
        "mixed": baselines.finetune(mixup=0.2),
        "l2_sp": baselines.l2_sp(),
        "distilled": baselines.distilled(),
        "car_ft": baselines.car_ft(),
        "lipsum_ft": baselines.lipsum_ft(),
        "lp_ft": probes.lp_ft(),
        "softened": softened_distillation(),
        "again": compositions.born_again(baselines.finetune()),
        "averaged": compositions.averaged(robust.flyp()),
    }
    made["carot"].terms["singular"] = SmallestSingularValue(of="projection")
    for method in made.values():
        if method.terms:
            for _, part in method.parts("x"):
                part.optimizer.warmup_steps = 1
    return made | {"probe": probes.linear_probe()}


def calibrators():
    """Every one that has settings."""
    return {
        "temperature": TemperatureScaling(),
        "ensemble": EnsembleTemperatureScaling(),
        "vector": VectorScaling(),
        "matrix": MatrixScaling(),
        "dirichlet": DirichletScaling(),
        "top": TopLabelBinning(),
        "each": OneVsRestBinning(),
    }


@pytest.fixture(scope="module")
def roots(tiny_experiment):
    """A config of every kind that between them have an instance of every config class."""
    experiment = tiny_experiment(methods=methods(), seeds=(0, 1))
    experiment.tuning = Tuning(trials={"mixed": {"a": experiment.methods["mixed"]}})
    experiment.weight_space = {"wise": WiseFT(of="carot"), "tpgm": Tpgm(of="carot")}
    experiment.evaluation.templates = ("a {}.", "the {}.")
    experiment.evaluation.calibrators = calibrators()
    experiment.evaluation.conformal_alpha = 0.1
    experiment.evaluation.trends = {"shifted": Trend(slope=1.0, intercept=0.0, scale="logit")}
    experiment.export.wise_ft = (0.5,)
    resnet = copy.deepcopy(experiment)
    resnet.model.vision = ResNetConfig(image_size=32, width=8, num_blocks=(1, 1, 1, 1), num_heads=4)
    resnet.pretrained, resnet.tuning = "a/model", None
    resnet.methods = {name: resnet.methods[name] for name in ("zero_shot", "carot")}
    resnet.weight_space |= {"soup": Soup(of="carot"), "stock": ModelStock(of="carot")}
    files = PredictionFiles(reported="a.npz", calibrators=calibrators())
    theory = Theory(self_distillation=(1.0, 2.0), orthogonality=(0.1, 0.2))
    return (experiment, resnet, files, theory)


def numbers(config, path=()):
    """The path of every number in a config, the last step an attribute, a key or an index."""
    if isinstance(config, bool):
        return
    if isinstance(config, (int, float)):
        yield path
    elif dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            yield from numbers(getattr(config, field.name), (*path, field.name))
    elif isinstance(config, (dict, tuple)):
        pairs = config.items() if isinstance(config, dict) else enumerate(config)
        for key, item in pairs:
            yield from numbers(item, (*path, key))


def get(config, path):
    for step in path:
        config = config[step] if isinstance(config, (dict, tuple)) else getattr(config, step)
    return config


def put(config, path, value):
    """Sets a number in place; of a tuple, all of it anew."""
    *before, last = path
    holder = get(config, before)
    if isinstance(holder, tuple):
        put(config, before, (*holder[:last], value, *holder[last + 1 :]))
    elif isinstance(holder, dict):
        holder[last] = value
    else:
        object.__setattr__(holder, last, value)  # a Trend is frozen


def place(config, path):
    """The class that has a number and its field: the same rule wherever the class is used."""
    length = max(n for n in range(len(path)) if dataclasses.is_dataclass(get(config, path[:n])))
    kinds = type(get(config, path[:length])).__mro__
    owner = next(k for k in reversed(kinds) if path[length] in vars(k).get("__annotations__", {}))
    return owner.__name__, path[length]


def refused(config, value=0):
    """Whether a config is refused, in one line, by the parts of `settings.check` that matter.

    Its types are as they were, and all numbers but the value.
    """
    try:
        settings.check_numbers(value, "config")
        config.validate()
    except ConfigError as error:
        assert "\n" not in str(error)
        return True
    return False


def check(roots, rng, num_cases):
    """Sets so many numbers of the configs, one after the other, to values that they cannot have."""
    found = {}
    for root in roots:
        assert not refused(root)
        for path in numbers(root):
            found.setdefault(place(root, path), (root, path))
    assert len(found) > 90
    cases = [(*one, value) for one in found.values() for value in HOSTILE[type(get(*one))]]
    for index in rng.permutation(len(cases))[:num_cases]:
        root, path, value = cases[index]
        before = get(root, path)
        put(root, path, value)
        kind, field = place(root, path)
        accepted = ACCEPTED.get((kind, field), ACCEPTED.get(field, set()))
        assert refused(root, value) == (value not in accepted), (kind, field, value)
        put(root, path, before)


def test_numbers_that_cannot_be_meant_are_refused_before_any_work(roots):
    check(roots, np.random.default_rng(0), 100)


@pytest.mark.many
def test_all_numbers_that_cannot_be_meant_are_refused_before_any_work(roots):
    check(roots, np.random.default_rng(0), None)
