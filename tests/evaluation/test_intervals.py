"""Intervals of a split, over shifts and of OOD detection, against resamples drawn one by one."""

import dataclasses

import numpy as np
import pytest

from calib_jax.evaluation import intervals
from calib_jax.evaluation.labelled import Labelled

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(120, 4))
LABELS = (LOGITS + 2 * RNG.normal(size=LOGITS.shape)).argmax(axis=1).astype(np.int32)
SPLIT = Labelled(scores=LOGITS, labels=LABELS)


def test_every_metric_has_an_interval_and_its_value_is_that_of_all_examples_once():
    outcomes = SPLIT.outcomes(num_bins=5)
    found = intervals.statistics(SPLIT, outcomes, num_bins=5)
    metrics = SPLIT.metrics(outcomes, num_bins=5)
    assert set(metrics) - set(found) == {"ece_10_per_batch_512"}
    ones = np.ones((1, len(LABELS)))
    for key, statistic in found.items():
        assert statistic.of_counts(ones)[0] == pytest.approx(metrics[key], abs=1e-9), key


def test_the_class_wise_error_has_none_where_it_would_take_long(monkeypatch):
    monkeypatch.setattr(intervals, "MAX_BY_CLASS", SPLIT.scores.size * 10)
    few, many = (
        set(intervals.statistics(SPLIT, SPLIT.outcomes(), num_resamples=n)) for n in (10, 11)
    )
    assert few - many == {"classwise_ece"}


def test_an_infinite_likelihood_has_none():
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    split = Labelled(scores=probs, labels=np.array([1, 1, 0]), kind="probs")
    assert "nll" not in intervals.statistics(split, split.outcomes())


def test_some_metrics_by_explicit_resampling():
    split = dataclasses.replace(SPLIT, seed=7)
    drawn = intervals.resampled(split, SPLIT.outcomes(), keys=("brier", "none"), num_resamples=30)
    assert list(drawn) == ["brier"]
    rows = np.random.default_rng(7).integers(120, size=(30, 120))
    np.testing.assert_allclose(drawn["brier"], SPLIT.outcomes().brier[rows].mean(axis=1))


def seeds(splits):
    found = intervals.seeded(splits, {name: split.outcomes() for name, split in splits.items()})
    return {name: split.seed for name, split in found.items()}


def test_the_same_images_are_drawn_alike_and_others_are_not():
    noise = np.random.default_rng(1).normal(size=LOGITS.shape)
    turned = Labelled(scores=LOGITS[::-1], labels=LABELS[::-1])
    splits = {
        "id": SPLIT,
        "noisy": Labelled(scores=LOGITS + noise, labels=LABELS.astype(np.int64)),
        "turned": turned,
        "turned and noisy": Labelled(scores=LOGITS[::-1] + noise, labels=LABELS[::-1]),
        "sure": Labelled(scores=np.eye(4)[LABELS] * 1e3, labels=LABELS),
    }
    assert seeds(splits) == {"id": 0, "noisy": 0, "turned": 2, "turned and noisy": 2, "sure": 0}


@pytest.mark.parametrize("labels", [np.repeat(np.arange(4), 30), np.tile(np.arange(4), 30)])
def test_in_the_order_of_the_classes_the_labels_do_not_tell(labels):
    noise, other = np.random.default_rng(1).normal(size=(2, *LOGITS.shape))
    splits = {
        "id": Labelled(scores=LOGITS, labels=labels),
        "noisy": Labelled(scores=LOGITS + noise, labels=labels),
        "other": Labelled(scores=other, labels=labels),
    }
    assert seeds(splits) == {"id": 0, "noisy": 0, "other": 2}


def test_two_sets_in_the_order_of_their_classes_are_two_sets():
    """Class difficulty is no shared image: some classes are nearly always right."""
    labels = np.repeat(np.arange(20), 50)
    scale = np.where(labels % 2, 8.0, 0.5)[:, None]
    splits = {}
    for name in range(8):
        noise = np.random.default_rng(name).normal(size=(1000, 20))
        splits[str(name)] = Labelled(scores=scale * np.eye(20)[labels] + noise, labels=labels)
    assert list(seeds(splits).values()) == list(range(8))
    outcomes = {name: split.outcomes() for name, split in splits.items()}
    values = {
        name: intervals.resampled(
            one, outcomes[name], keys=("accuracy", "ece_15"), num_resamples=300
        )
        for name, one in intervals.seeded(splits, outcomes).items()
    }
    spread = intervals.over_shifts(values, tuple(splits))["ood_accuracy"].std()
    of_each = [of["accuracy"].std() for of in values.values()]
    assert spread == pytest.approx(np.mean(of_each) / np.sqrt(8), rel=0.2)


def test_over_shifts():
    values = {
        "a": {"accuracy": np.array([0.1, 0.4]), "ece_7": np.array([0.2, 0.3])},
        "b": {"accuracy": np.array([0.3, 0.2]), "ece_7": np.array([0.4, 0.1])},
    }
    got = intervals.over_shifts(values, ("a", "b"), num_bins=7)
    assert {key: value.tolist() for key, value in got.items()} == {
        "ood_accuracy": pytest.approx([0.2, 0.3]),
        "ood_ece": pytest.approx([0.3, 0.2]),
        "worst_shift_accuracy": [0.1, 0.2],
        "worst_shift_ece": [0.4, 0.3],
    }
    assert intervals.over_shifts(values, ()) == {}


def test_parts_of_a_record():
    values = {"a": {"accuracy": np.linspace(0, 1, 101)}}
    assert intervals.parts(values, {}, 0.8) == {
        "intervals": {"a": {"accuracy": pytest.approx([0.1, 0.9])}}
    }
    over = {"ood_ece": np.linspace(0, 0.1, 101)}
    assert intervals.parts(values, over, 0.5)["summary_intervals"] == {
        "ood_ece": pytest.approx([0.025, 0.075])
    }
