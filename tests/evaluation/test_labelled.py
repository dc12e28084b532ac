"""Scores of a labelled split, and the metrics of them."""

import numpy as np
import pytest
import scipy.special

from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.evaluation.labelled import Labelled, check_defined
from calib_jax.evaluation.split_metrics import classification_metrics

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(120, 4))
LABELS = (LOGITS + 2 * RNG.normal(size=LOGITS.shape)).argmax(axis=1).astype(np.int32)
PROBS = scipy.special.softmax(LOGITS, axis=1)
SPLIT = Labelled(scores=LOGITS, labels=LABELS)
NAMES = ("ant", "bee", "cat", "dog")


def test_probabilities_are_the_softmax_of_logits():
    of_probs = Labelled(scores=PROBS, labels=LABELS, kind="probs")
    got, expected = of_probs.metrics(), SPLIT.metrics(SPLIT.outcomes())
    assert SPLIT.metrics() == expected  # a split that was read before is not read again
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


class Several(ImageSplit):
    """Ten images, of which each has the classes i % 4 and (i + 1) % 4."""

    def __init__(self, groups=None, has_answers=True):
        self.groups, self.has_answers = groups, has_answers

    def __len__(self):
        return 10

    def answers(self, indices=None):
        right = np.eye(4, dtype=bool)[np.arange(10) % 4]
        return (right | np.roll(right, 1, axis=1))[indices]


def said(rows):
    """Predictions that are each example's second class."""
    return Predictions(
        logits=np.eye(4)[(rows + 1) % 4],
        labels=(rows % 4).astype(np.int32),
        features=np.ones((len(rows), 2)),
        class_embeddings=np.ones((4, 2)),
    )


@pytest.mark.parametrize("rows", [np.arange(10), np.array([0, 3, 6])])
def test_of_a_split_or_of_some_of_its_examples_at_even_distances(rows):
    assert Labelled.of(said(rows), Several()).outcomes().correct.all()
    alone = Labelled.of(said(rows), Several(has_answers=False))
    assert alone.answers is None and not alone.outcomes().correct.any()
    groups = np.array([0, 0, 1, 1])
    own = Labelled.of(said(rows), Several(groups, has_answers=False), zero_shot=said(rows))
    np.testing.assert_array_equal(
        own.outcomes().correct, groups[rows % 4] == groups[(rows + 1) % 4]
    )
    np.testing.assert_array_equal(own.zero_shot, own.scores)


def test_no_choice_goes_by_a_number_that_the_split_has_none_of():
    place = {"where": "a.metric", "fix": "Set ece_15."}
    check_defined("nll", Several(has_answers=False), **place)
    check_defined("accuracy", Several(), **place)
    message = r"^a.metric: got 'nll', but several classes are right .* no such number. Set ece_15.$"
    with pytest.raises(ConfigError, match=message):
        check_defined("nll", Several(), **place)


def test_an_infinite_likelihood_is_none():
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    split = Labelled(scores=probs, labels=np.array([1, 1, 0]), kind="probs")
    outcomes = split.outcomes()
    assert split.metrics(outcomes)["nll"] is None
    assert split.metrics(outcomes)["brier"] == pytest.approx(2.5 / 3)
