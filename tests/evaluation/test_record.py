"""What the record says of labelled splits."""

import functools
import json

import numpy as np
import pytest
import scipy.special

from calib_jax.core.errors import ConfigError
from calib_jax.evaluation import record
from calib_jax.evaluation.labelled import Labelled
from calib_jax.metrics import bootstrap
from calib_jax.metrics import bootstrap_calibration as of_calibration
from calib_jax.metrics.robustness import Trend

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(120, 4))
LABELS = (LOGITS + 2 * RNG.normal(size=LOGITS.shape)).argmax(axis=1).astype(np.int32)
PROBS = scipy.special.softmax(LOGITS, axis=1)
SPLIT = Labelled(scores=LOGITS, labels=LABELS)
NAMES = ("ant", "bee", "cat", "dog")
TREND = Trend(slope=0.8, intercept=-0.4, scale="logit")


def test_intervals_are_those_of_the_bootstrap():
    splits = {"id": SPLIT, "a": SPLIT, "b": Labelled(scores=LOGITS[:50], labels=LABELS[:50])}
    outcomes = {name: split.outcomes() for name, split in splits.items()}
    got = record.records(
        splits, outcomes, id_name="id", shifts=("a", "b"), num_resamples=50, level=0.8
    )
    values = {}
    for name in ("a", "b"):
        top = (outcomes[name].confidence, outcomes[name].correct)
        statistics = {
            "nll": bootstrap.mean(outcomes[name].nll),
            "accuracy": bootstrap.mean(top[1]),
            "ece": of_calibration.calibration_error(*top),
        }
        values[name] = bootstrap.resampled(statistics, num_resamples=50, seed=splits[name].seed)
        ends = np.quantile(values[name]["nll"], [0.1, 0.9]).tolist()
        assert got["intervals"][name]["nll"] == pytest.approx(ends, rel=1e-12)
    summaries = {
        "ood_accuracy": (values["a"]["accuracy"] + values["b"]["accuracy"]) / 2,
        "ood_ece": (values["a"]["ece"] + values["b"]["ece"]) / 2,
        "worst_shift_accuracy": np.minimum(values["a"]["accuracy"], values["b"]["accuracy"]),
        "worst_shift_ece": np.maximum(values["a"]["ece"], values["b"]["ece"]),
    }
    assert set(got["summary_intervals"]) == set(summaries)
    for key, drawn in summaries.items():
        expected = np.quantile(drawn, [0.1, 0.9])
        np.testing.assert_allclose(got["summary_intervals"][key], expected, rtol=1e-12)
    plain = functools.partial(record.records, splits, outcomes, id_name="id")
    assert "intervals" not in plain()
    assert "summary_intervals" not in plain(num_resamples=2)
    with pytest.raises(ConfigError, match="num_resamples: got 1, expected 0 for no"):
        plain(num_resamples=1)
    with pytest.raises(ConfigError, match="level: got 80.0, expected a fraction above 0"):
        plain(level=80.0)


def test_effective_robustness_of_the_shifts_with_a_line():
    wrong = Labelled(scores=LOGITS[:50], labels=(LOGITS[:50].argmax(axis=1) + 1) % 4)
    splits = {
        "id": SPLIT,
        "a": Labelled(scores=LOGITS[::-1], labels=LABELS[::-1]),
        "b": Labelled(scores=LOGITS[20:], labels=LABELS[20:]),
        "wrong": wrong,
    }
    outcomes = {name: split.outcomes() for name, split in splits.items()}
    options = {"id_name": "id", "num_resamples": 40, "level": 0.8}
    shifts = ("a", "b", "wrong")
    got = record.records(
        splits, outcomes, shifts=shifts, trends={"a": TREND, "b": TREND}, **options
    )
    values = {
        name: bootstrap.resampled(
            {"x": bootstrap.mean(outcomes[name].correct)}, num_resamples=40, seed=s.seed
        )["x"]
        for name, s in splits.items()
    }
    drawn = []
    for name in ("a", "b"):
        id_accuracy, accuracy = (got["metrics"][n]["accuracy"] for n in ("id", name))
        line = 1 / (1 + np.exp(0.4 - 0.8 * np.log(id_accuracy / (1 - id_accuracy))))
        assert got["metrics"][name]["effective_robustness"] == pytest.approx(accuracy - line)
        lines = 1 / (1 + np.exp(0.4 - 0.8 * np.log(values["id"] / (1 - values["id"]))))
        drawn.append(values[name] - lines)
        expected = pytest.approx(np.quantile(drawn[-1], [0.1, 0.9]))
        assert got["intervals"][name]["effective_robustness"] == expected
    assert got["summary_intervals"]["effective_robustness"] == pytest.approx(
        np.quantile(np.mean(drawn, axis=0), [0.1, 0.9])
    )
    assert not any("effective_robustness" in got["metrics"][name] for name in ("id", "wrong"))
    # An accuracy of 0 has no logit; the line, a limit.
    got = record.records(splits, outcomes, shifts=shifts, trends={"wrong": TREND}, **options)
    line = 1 / (1 + np.exp(0.4 - 0.8 * np.log(id_accuracy / (1 - id_accuracy))))
    assert got["metrics"]["wrong"]["effective_robustness"] == pytest.approx(-line)
    assert got["summary_intervals"]["effective_robustness"][1] < 0


def test_lines_that_are_none():
    record.check_trends({"fog": TREND}, ("fog",), where="trends")
    with pytest.raises(ConfigError, match="^x.trends: there is no shift 'frog'.* 'fog'"):
        record.check_trends({"frog": TREND}, ("fog",), where="x.trends")
    with pytest.raises(ConfigError, match="trends.fog.slope: got nan, expected a finite number"):
        endless = Trend(slope=np.nan, intercept=0.0, scale="logit")
        record.check_trends({"fog": endless}, ("fog",), where="trends")


def test_records_are_json():
    splits = {"a": SPLIT, "b": Labelled(scores=LOGITS[:3], labels=LABELS[:3])}
    outcomes = {name: split.outcomes() for name, split in splits.items()}
    got = record.records(splits, outcomes, id_name="a", num_resamples=2)
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert got.pop("level") == 0.95
    assert [list(got[key]) for key in got] == [["a", "b"]] * 4
    without = record.records(splits, outcomes, id_name="a", level=0.5)
    assert list(without) == ["metrics", "reliability", "selective", "level"]
    assert without["level"] == 0.5 and without["reliability"] != got["reliability"]


def test_the_curve_has_few_points_and_both_ends():
    confidence = SPLIT.outcomes().confidence
    is_right = SPLIT.outcomes().correct
    got = record.selective_curve(SPLIT.outcomes())
    assert len(got["coverage"]) == 101
    for coverage, risk in zip(got["coverage"], got["risk"], strict=True):
        kept = np.argsort(-confidence)[: round(coverage * 120)]
        assert risk == pytest.approx((~is_right[kept]).mean())
    assert got["coverage"][0] == 1 / 120 and got["coverage"][-1] == 1.0
    constant = Labelled(scores=np.zeros((5, 2)), labels=np.array([0, 1, 0, 0, 1]))
    assert record.selective_curve(constant.outcomes()) == {"coverage": [1.0], "risk": [0.4]}


def test_the_most_confident_mistakes_first():
    outcomes = SPLIT.outcomes()
    got = record.mistakes(outcomes, NAMES)
    wrong = [row for row in np.argsort(-PROBS.max(axis=1)) if LABELS[row] != PROBS[row].argmax()]
    assert [row["index"] for row in got] == wrong[:8]
    for row in got:
        assert row["label"] == NAMES[LABELS[row["index"]]]
        assert row["prediction"] == NAMES[PROBS[row["index"]].argmax()]
        assert row["confidence"] == pytest.approx(PROBS[row["index"]].max())
    right = Labelled(scores=np.eye(4), labels=np.arange(4))
    assert record.mistakes(right.outcomes(), NAMES) == []
