"""A metric and a section of the report, each in one file beside the config, in the command."""

import json
import pickle

import numpy as np

from calib_jax import main
from calib_jax.methods.baselines import zero_shot

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

CONFIG = """
import pathlib
import pickle

from own_metric import TOP2_ERROR
from own_section import section


def get_config():
    config = pickle.loads(pathlib.Path(__file__).with_suffix(".pickle").read_bytes())
    config.evaluation.metrics = {"top2_error": TOP2_ERROR}
    config.sections = {"Of my own": section}
    return config
"""


def test_one_file_each(tiny_experiment, tmp_path, monkeypatch):
    files = {"own_metric.py": METRIC, "own_section.py": SECTION, "config.py": CONFIG}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    experiment = tiny_experiment(methods={"zero_shot": zero_shot()}, weight_space={})
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(experiment))
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    argv = ["main", "--config", str(tmp_path / "config.py"), "--workdir", str(run)]
    assert main.main(argv) == 0
    results = json.loads((run / "results.json").read_text())
    own = {"title": "top2 error", "unit": "fraction", "direction": "lower"}
    assert results["quantities"] == {"top2_error": own}
    (record,) = results["runs"]
    for split, numbers in record["metrics"].items():
        assert numbers["accuracy"] <= 1 - numbers["top2_error"] <= 1
        low, high = record["intervals"][split]["top2_error"]
        assert low <= numbers["top2_error"] <= high
    page = (run / "report.html").read_text(encoding="utf-8")
    mean = np.mean([record["metrics"]["clean"]["top2_error"]])
    assert "<h2>Of my own</h2>" in page and f"The mean is {mean:.3f}." in page
    assert "top2 error\N{NO-BREAK SPACE}↓" in page
