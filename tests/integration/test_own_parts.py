"""A metric, score, term, data set and section of the report, each one file beside the config."""

import json
import pickle

import numpy as np
import pytest

from calib_jax import main
from calib_jax.methods.baselines import zero_shot

pytestmark = pytest.mark.usefixtures("one_device")

METRIC = """
from calib_jax.metrics import bootstrap
from calib_jax.metrics.metric import Metric


def value(split):
    return float((split.outcomes.rank > 1).mean())


def statistic(split):
    return bootstrap.mean(split.outcomes.rank > 1)


TOP2_ERROR = Metric(title="top2 error", direction="lower", value=value, statistic=statistic)
"""

SECTION = """
from calib_jax.report.markup import paragraph


def section(results):
    errors = results["page"]["means"]["zero_shot"]["metrics"]["clean"]["top2_error"]
    return paragraph(f"The mean is {errors['mean']:.3f}.")
"""

SCORE = """
import dataclasses

from calib_jax.scores.score import Score


@dataclasses.dataclass(kw_only=True)
class Norm(Score):
    needs = frozenset({"features"})
    power: float = 2.0

    def __call__(self, quantities):
        return (abs(quantities.features.astype(float)) ** self.power).sum(axis=1)
"""

TERM = """
import dataclasses

import jax.numpy as jnp

from calib_jax.methods.robust import flyp
from calib_jax.objectives.term import Term


@dataclasses.dataclass(kw_only=True)
class SmallFeatures(Term):
    def __call__(self, views):
        return jnp.sum(jnp.square(views.image_features), axis=-1)


def small_features():
    method = flyp().scheduled(learning_rate=1e-3, warmup_steps=1)
    method.terms["small_features"] = SmallFeatures(weight=1e-3)
    return method
"""

DATA = """
from calib_jax.data.datasets.records import Split

CLASS_NAMES = ("red", "green", "dark blue")
TEMPLATES = ("a swatch of {}.",)


def test():
    return Split(name="tiny_colours", split="test[50%:]")
"""

CONFIG = """
import pathlib
import pickle

import own_data
from own_metric import TOP2_ERROR
from own_score import Norm
from own_section import section
from own_term import small_features


def get_config():
    config = pickle.loads(pathlib.Path(__file__).with_suffix(".pickle").read_bytes())
    config.methods["mine"] = small_features()
    config.evaluation.metrics = {"top2_error": TOP2_ERROR}
    config.evaluation.scores["norm"] = Norm()
    config.evaluation.shifts["swatches"] = own_data.test()
    config.evaluation.templates = own_data.TEMPLATES
    config.sections = {"Of my own": section}
    return config
"""


def test_one_file_each(tiny_experiment, tmp_path, monkeypatch):
    """Takes seconds: a training with a new term is a new program to compile."""
    files = {
        "own_metric": METRIC,
        "own_score": SCORE,
        "own_term": TERM,
        "own_data": DATA,
        "own_section": SECTION,
        "config": CONFIG,
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    experiment = tiny_experiment(methods={"zero_shot": zero_shot()}, weight_space={})
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(experiment))
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    argv = ["main", "--config", str(tmp_path / "config.py"), "--workdir", str(run)]
    argv.append("--config.evaluation.scores.norm.power=1.0")
    assert main.main(argv) == 0
    results = json.loads((run / "results.json").read_text())
    own = {"title": "top2 error", "unit": "fraction", "direction": "lower"}
    assert results["quantities"] == {"top2_error": own}
    record, mine = results["runs"]
    assert set(mine["metrics"]) == {"validation", "clean", "shifted", "swatches"}
    assert 0 <= mine["detection"]["far"]["norm"]["auroc"] <= 1
    assert results["config"]["evaluation"]["scores"]["norm"]["power"] == 1.0
    history = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["phase"] == "mine" and history[-1]["terms"]["small_features"] > 0
    for split, numbers in record["metrics"].items():
        assert numbers["accuracy"] <= 1 - numbers["top2_error"] <= 1
        low, high = record["intervals"][split]["top2_error"]
        assert low <= numbers["top2_error"] <= high
    page = (run / "report.html").read_text(encoding="utf-8")
    mean = np.mean([record["metrics"]["clean"]["top2_error"]])
    assert "<h2>Of my own</h2>" in page and f"The mean is {mean:.3f}." in page
    assert "top2 error\N{NO-BREAK SPACE}↓" in page
