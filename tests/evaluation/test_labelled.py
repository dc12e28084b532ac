"""What is computed from one labelled split."""

import json

import numpy as np
import pytest
import scipy.special

from calib_jax.core.errors import ConfigError
from calib_jax.evaluation import labelled
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.shifts import classification_metrics
from calib_jax.metrics import bootstrap
from calib_jax.metrics import bootstrap_calibration as of_calibration

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(120, 4))
LABELS = (LOGITS + 2 * RNG.normal(size=LOGITS.shape)).argmax(axis=1).astype(np.int32)
PROBS = scipy.special.softmax(LOGITS, axis=1)
SPLIT = Labelled(scores=LOGITS, labels=LABELS)
NAMES = ("ant", "bee", "cat", "dog")


def test_probabilities_are_the_softmax_of_logits():
    of_probs = Labelled(scores=PROBS, labels=LABELS, kind="probs")
    got, expected = of_probs.metrics(of_probs.outcomes()), SPLIT.metrics(SPLIT.outcomes())
    assert got == pytest.approx(expected)
    assert expected == classification_metrics(SPLIT.outcomes())


@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_restricting_logits_or_probabilities_is_one(kind):
    """Of the classes cat, and ant or dog, by the larger; the rest is divided between them."""
    groups = np.array([1, -1, 0, 1], np.int32)
    labels = np.where(LABELS % 2, 2, 3)
    split = Labelled(
        scores=LOGITS if kind == "logits" else PROBS, labels=labels, kind=kind, groups=groups
    )
    outcomes = split.outcomes()
    own = np.stack([PROBS[:, 2], PROBS[:, [0, 3]].max(axis=1)], axis=1)
    own /= own.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outcomes.confidence, own.max(axis=1))
    np.testing.assert_array_equal(outcomes.labels, groups[labels])
    assert split.class_names(NAMES) == ("cat", "ant")


def test_no_probability_for_any_of_the_classes_is_the_same_for_all():
    groups = np.array([-1, 0, 1, -1], np.int32)
    scores = np.array([[1.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.6, 0.0]])
    split = Labelled(scores=scores, labels=np.array([1, 2]), kind="probs", groups=groups)
    np.testing.assert_allclose(split.outcomes().confidence, [0.5, 0.75])


def test_several_right_answers_in_fewer_classes():
    groups = np.array([1, -1, 0, 1], np.int32)
    right = np.zeros((120, 4), bool)
    right[:, 3] = True
    split = Labelled(scores=LOGITS, labels=np.full(120, 2), groups=groups, answers=right)
    is_other = LOGITS[:, [0, 3]].max(axis=1) >= LOGITS[:, 2]
    # The label cat is right too: it is what relabel falls back on.
    assert split.outcomes().correct.all()
    none = Labelled(scores=LOGITS, labels=np.full(120, 2), groups=groups, answers=right & False)
    np.testing.assert_array_equal(none.outcomes().correct, ~is_other)


def test_an_infinite_likelihood_is_none():
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    split = Labelled(scores=probs, labels=np.array([1, 1, 0]), kind="probs")
    outcomes = split.outcomes()
    assert split.metrics(outcomes)["nll"] is None
    assert split.metrics(outcomes)["brier"] == pytest.approx(2.5 / 3)
    assert "nll" not in labelled.statistics(split, outcomes)


def test_every_metric_has_an_interval_and_its_value_is_that_of_all_examples_once():
    outcomes = SPLIT.outcomes(num_bins=5)
    found = labelled.statistics(SPLIT, outcomes, num_bins=5)
    metrics = SPLIT.metrics(outcomes, num_bins=5)
    assert set(metrics) - set(found) == {"ece_10_per_batch_512"}
    ones = np.ones((1, len(LABELS)))
    for key, statistic in found.items():
        assert statistic.of_counts(ones)[0] == pytest.approx(metrics[key], abs=1e-9), key


def test_the_class_wise_error_has_none_where_it_would_take_long(monkeypatch):
    monkeypatch.setattr(labelled, "MAX_CLASSWISE", SPLIT.scores.size * 10)
    few, many = (
        set(labelled.statistics(SPLIT, SPLIT.outcomes(), num_resamples=n)) for n in (10, 11)
    )
    assert few - many == {"classwise_ece"}


def test_intervals_are_those_of_the_bootstrap():
    splits = {"id": SPLIT, "a": SPLIT, "b": Labelled(scores=LOGITS[:50], labels=LABELS[:50])}
    outcomes = {name: split.outcomes() for name, split in splits.items()}
    got = labelled.records(splits, outcomes, shifts=("a", "b"), num_resamples=50, level=0.8)
    values = {}
    for name in ("a", "b"):
        top = (outcomes[name].confidence, outcomes[name].correct)
        statistics = {
            "nll": bootstrap.mean(outcomes[name].nll),
            "accuracy": bootstrap.mean(top[1]),
            "ece": of_calibration.calibration_error(*top),
        }
        values[name] = bootstrap.resampled(statistics, num_resamples=50)
        ends = np.quantile(values[name]["nll"], [0.1, 0.9]).tolist()
        assert got["intervals"][name]["nll"] == ends
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
    assert "intervals" not in labelled.records(splits, outcomes)
    assert "summary_intervals" not in labelled.records(splits, outcomes, num_resamples=2)
    with pytest.raises(ConfigError, match="num_resamples: got 1, expected at least 2"):
        labelled.records(splits, outcomes, num_resamples=1)
    with pytest.raises(ConfigError, match="level: got 80.0, expected a fraction above 0"):
        labelled.records(splits, outcomes, level=80.0)


def test_records_are_json():
    splits = {"a": SPLIT, "b": Labelled(scores=LOGITS[:3], labels=LABELS[:3])}
    outcomes = {name: split.outcomes() for name, split in splits.items()}
    got = labelled.records(splits, outcomes, num_resamples=2)
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert got.pop("level") == 0.95
    assert [list(got[key]) for key in got] == [["a", "b"]] * 4
    without = labelled.records(splits, outcomes, level=0.5)
    assert list(without) == ["metrics", "reliability", "selective", "level"]
    assert without["level"] == 0.5 and without["reliability"] != got["reliability"]


def test_the_curve_has_few_points_and_both_ends():
    confidence = SPLIT.outcomes().confidence
    is_right = SPLIT.outcomes().correct
    got = labelled.selective_curve(SPLIT.outcomes())
    assert len(got["coverage"]) == 101
    for coverage, risk in zip(got["coverage"], got["risk"], strict=True):
        kept = np.argsort(-confidence)[: round(coverage * 120)]
        assert risk == pytest.approx((~is_right[kept]).mean())
    assert got["coverage"][0] == 1 / 120 and got["coverage"][-1] == 1.0
    constant = Labelled(scores=np.zeros((5, 2)), labels=np.array([0, 1, 0, 0, 1]))
    assert labelled.selective_curve(constant.outcomes()) == {"coverage": [1.0], "risk": [0.4]}


def test_the_most_confident_mistakes_first():
    outcomes = SPLIT.outcomes()
    got = labelled.mistakes(outcomes, NAMES)
    wrong = [row for row in np.argsort(-PROBS.max(axis=1)) if LABELS[row] != PROBS[row].argmax()]
    assert [row["index"] for row in got] == wrong[:8]
    for row in got:
        assert row["label"] == NAMES[LABELS[row["index"]]]
        assert row["prediction"] == NAMES[PROBS[row["index"]].argmax()]
        assert row["confidence"] == pytest.approx(PROBS[row["index"]].max())
    right = Labelled(scores=np.eye(4), labels=np.arange(4))
    assert labelled.mistakes(right.outcomes(), NAMES) == []
