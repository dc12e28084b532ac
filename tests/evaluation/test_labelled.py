"""Scores of a labelled split, and the metrics of them."""

import numpy as np
import pytest
import scipy.special

from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.split_metrics import classification_metrics

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
