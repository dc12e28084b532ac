"""The toy experiment, end to end on a few small networks."""

import dataclasses
import json
import math
import pathlib
import runpy

import numpy as np
import pytest
import scipy.stats

from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.theory import experiment as module
from calib_jax.theory import toy
from calib_jax.theory.experiment import Theory, run_seed, run_theory

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = Theory(
    dims=(6, 6, 4),
    num_train=60,
    num_test=90,
    class_mean=0.5,
    widths=(8, 4),
    learning_rate=0.02,
    batch_size=20,
    num_steps=12,
    self_distillation=(0.5, 3.0),
    orthogonality=(0.1, 1.0),
    seeds=(0, 3),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("theory") / "run"
    run_theory(SMALL, path)
    return path


def ece_by_loop(probs, labels):
    gaps = 0.0
    for b in range(15):
        inside = [
            (max(p), int(np.argmax(p) == y))
            for p, y in zip(probs, labels, strict=True)
            if min(int(max(p) * 15), 14) == b
        ]
        gaps += abs(sum(c for c, _ in inside) - sum(hit for _, hit in inside))
    return gaps / len(labels)


def by_hand(seed):
    """Every network of a seed trained by `toy.fit`, and measured without the library."""
    rng = np.random.default_rng(seed)
    train, test = (toy.draw(rng, n, (6, 6, 4), class_mean=0.5, flip_rate=0.15) for n in (60, 90))
    ood = toy.shift(test, (6, 6, 4), class_mean=0.5, scale=0.5)
    first, second = toy.init(rng, (16, 8, 4, 2)), toy.init(rng, (16, 8, 4, 2))
    batches = np.concatenate([rng.permutation(60) for _ in range(4)]).reshape(12, 20)
    zero = toy.Strengths(np.zeros(1, np.float32), np.zeros(1, np.float32))
    teacher = toy.fit(first, train, np.zeros((60, 2), "f4"), zero, batches, learning_rate=0.02)
    logits = np.asarray(toy.predict(teacher, train.inputs)[1][0])
    pairs = [(0, 0), (0.5, 0), (3, 0), (0, 0.1), (0, 1), (0.5, 0.1), (3, 1)]
    strengths = toy.Strengths(*np.array(pairs, np.float32).T)
    networks = toy.fit(second, train, logits, strengths, batches, learning_rate=0.02)
    for k, pair in enumerate(pairs):
        row = {"seed": seed, "self_distillation": pair[0], "orthogonality": pair[1]}
        for name, inputs in (("id", test.inputs), ("ood", ood.inputs)):
            features = inputs.astype(np.float64)
            for layer in networks[:-1]:
                features = np.tanh(features @ layer.kernel[k] + layer.bias[k])
            odds = features @ networks[-1].kernel[k] + networks[-1].bias[k]
            probs = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
            if name == "id":
                row["sigma_min"] = np.linalg.eigvalsh(np.corrcoef(features.T))[0]
            row[f"{name}_accuracy"] = np.mean(probs.argmax(1) == test.labels)
            row[f"{name}_mse"] = np.mean((probs[:, 1] - test.labels) ** 2)
            row[f"{name}_ece"] = ece_by_loop(probs, test.labels)
        yield row


def test_results_are_those_computed_by_hand(finished):
    results = json.loads((finished / "results.json").read_text())
    expected = [row for seed in (0, 3) for row in by_hand(seed)]
    assert len(results["models"]) == len(expected) == 14
    for got, row in zip(results["models"], expected, strict=True):
        for key, value in row.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-4, atol=1e-6, err_msg=key)
    columns = {
        key: np.array([row[key] for row in expected]) for key in ("id_ece", "ood_mse", "ood_ece")
    }
    inverse = 1 / np.array([row["sigma_min"] for row in expected])
    columns["inverse_sigma_min"] = inverse
    columns["mean"] = (inverse + columns["id_ece"]) / 2
    columns["mean_standardized"] = (
        scipy.stats.zscore(inverse) + scipy.stats.zscore(columns["id_ece"])
    ) / 2
    for name in ("mean", "mean_standardized"):
        got = [model[name] for model in results["models"]]
        np.testing.assert_allclose(got, columns[name], rtol=1e-3, atol=1e-4)
    assert len(results["correlations"]) == 8
    for row in results["correlations"]:
        r = np.corrcoef(columns[row["x"]], columns[row["y"]])[0, 1]
        rho = scipy.stats.spearmanr(columns[row["x"]], columns[row["y"]]).statistic
        np.testing.assert_allclose(row["pearson"]["value"], r, atol=1e-3)
        np.testing.assert_allclose(row["spearman"]["value"], rho, atol=1e-3)
        left = [
            np.concatenate([part - part.mean() for part in np.split(columns[row[axis]], 2)])
            for axis in ("x", "y")
        ]
        within = row["pearson_within_seeds"]
        np.testing.assert_allclose(within["value"], np.corrcoef(*left)[0, 1], atol=1e-3)
        for kind in ("pearson", "spearman", "pearson_within_seeds"):
            assert -1 <= row[kind]["low"] <= row[kind]["high"] <= 1


def test_results_hold_the_settings_and_the_machine(finished):
    results = json.loads((finished / "results.json").read_text())
    assert results["config"]["orthogonality"] == [0.1, 1.0]
    assert results["environment"]["platform"] == "cpu"
    assert results["environment"]["wall_seconds"] > 0
    assert "<h1>CaRot&#x27;s bound on toy data</h1>" in (finished / "report.html").read_text()


def test_finished_seeds_are_kept(finished, monkeypatch):
    before = (finished / "results.json").read_text()
    called = []

    def spy(theory, seed):
        called.append(seed)
        return run_seed(theory, seed)

    monkeypatch.setattr(module, "run_seed", spy)
    assert run_theory(SMALL, finished) == json.loads(before)
    assert called == [] and (finished / "results.json").read_text() == before
    (finished / "results.json").unlink()
    (finished / "evaluations" / "seed_3" / "theory.json").unlink()
    again = run_theory(SMALL, finished)
    assert called == [3]
    assert again["models"] == json.loads(before)["models"]


def test_another_config_is_refused(finished):
    with pytest.raises(ConfigError, match=r"run of another config.*num_steps: 12 -> 13"):
        run_theory(dataclasses.replace(SMALL, num_steps=13), finished)


def test_a_network_that_diverges_is_an_error():
    with pytest.raises(TrainingError, match=r"sigma_min: got \S+ after training, expected a num"):
        run_seed(dataclasses.replace(SMALL, learning_rate=1e30), 0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_train", 0, "num_train: got 0, expected at least 1"),
        ("batch_size", 0, "batch_size: got 0, expected at least 1"),
        ("num_steps", -1, "num_steps: got -1, expected at least 1"),
        ("num_test", 4, "num_test: got 4, expected more than the 4 units of widths"),
        ("dims", (6, 0, 4), r"dims: got \(6, 0, 4\), expected numbers of at least 1"),
        ("widths", (0, 4), r"widths: got \(0, 4\), expected numbers of at least 1"),
        ("class_mean", 0.0, "class_mean: got 0.0, expected a finite number > 0"),
        ("ood_scale", math.inf, "ood_scale: got inf, expected a finite number > 0"),
        ("learning_rate", math.nan, "learning_rate: got nan, expected a number: a config with it"),
        ("flip_rate", 0.5, r"flip_rate: got 0.5, expected a number in \[0, 0.5\)"),
        ("self_distillation", (), r"self_distillation: got \(\), expected finite numbers > 0"),
        ("orthogonality", (0.0, 1.0), r"orthogonality: got \(0.0, 1.0\), expected finite num"),
        ("orthogonality", (1.0,), r"orthogonality: got \(1.0,\), expected 2 strengths"),
        ("seeds", (), r"seeds: got \(\), expected different numbers >= 0"),
        ("seeds", (1, 1), r"seeds: got \(1, 1\), expected different numbers >= 0"),
        ("seeds", (-1,), r"seeds: got \(-1,\), expected different numbers >= 0"),
        ("seeds", (0.5,), r"config.seeds\[0\]: got 0.5 of type float, expected int"),
    ],
)
def test_mistakes_are_found_before_any_work(field, value, message, tmp_path):
    theory = dataclasses.replace(SMALL)
    setattr(theory, field, value)
    with pytest.raises(ConfigError, match=message):
        run_theory(theory, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_config_of_the_study():
    theory = runpy.run_path(str(ROOT / "configs" / "study" / "theory.py"))["get_config"]()
    theory.validate()
    settings = theory.settings()
    assert sum(theory.dims) == 1000 and len(settings) * len(theory.seeds) == 111
    pairs = {(s["self_distillation"], s["orthogonality"]) for s in settings}
    assert len(pairs) == 37 and (0.0, 0.0) in pairs
    for s in settings:
        parts = [("L_SD", s["self_distillation"]), ("L_OC", s["orthogonality"])]
        assert s["objective"] == (" + ".join(n for n, w in parts if w) or "baseline")
