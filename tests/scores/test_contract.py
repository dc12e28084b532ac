"""Every file of calib_jax/scores keeps the contract: a new score needs no line here."""

import dataclasses
import importlib
import pathlib

import numpy as np
import pytest

import calib_jax.scores
from calib_jax.metrics.detection import detection
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score, fitted

FOLDER = pathlib.Path(calib_jax.scores.__file__).parent
FILES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("__init__", "quantities"))
NUM_CLASSES, DIM = 5, 12


def scores_of(file):
    """The scores that a config can name: those that need no argument."""
    module = importlib.import_module(f"calib_jax.scores.{file}")
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Score)
        and kind is not Score
        and kind.__module__ == module.__name__
        and all(
            f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
            for f in dataclasses.fields(kind)
        )
    ]


KINDS = [kind for file in FILES for kind in scores_of(file)]
BANKS = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0]
CLASSES, NEGATIVE = BANKS[:NUM_CLASSES], BANKS[NUM_CLASSES:]


def arrays(num_examples, *, known, seed, scale=100.0):
    """Images near one of the classes, or near one of the texts that are none."""
    rng = np.random.default_rng(seed)
    bank = CLASSES if known else NEGATIVE
    labels = rng.integers(len(bank), size=num_examples)
    features = 3 * (bank[labels] + 0.15 * rng.normal(size=(num_examples, DIM)))
    patches = features[:, None] + 0.3 * rng.normal(size=(num_examples, 4, DIM))
    similarities = features / np.linalg.norm(features, axis=1, keepdims=True) @ CLASSES.T
    return {
        "logits": scale * similarities,
        "similarities": similarities,
        "features": features,
        "patches": patches,
        "class_bank": CLASSES,
        "negative_bank": NEGATIVE,
        "labels": labels % NUM_CLASSES,
    }


PER_EXAMPLE = ("logits", "similarities", "features", "patches", "labels")


def taken(given, rows):
    return {k: v[rows] if k in PER_EXAMPLE else v for k, v in given.items()}


def ready(kind):
    """The score as a run has it, fitted if it is to be."""
    reference = Quantities(**arrays(200, known=True, seed=9))
    (score,) = fitted({"it": kind()}, reference).values()
    return score


def values(score, given):
    return score(Quantities(**given).only(score.needs))


def test_the_folder_is_not_empty():
    assert {"MSP", "MaxLogit", "Energy", "MCM", "MaxSimilarity"} <= {k.__name__ for k in KINDS}
    assert {f for f in FILES if not scores_of(f)} == {"score"}


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_it_needs(kind):
    score = kind()
    score.validate()
    assert score.needs and score.needs | score.fit_needs <= set(arrays(1, known=True, seed=0))
    assert kind.__doc__ and "higher = in-distribution" in kind.__doc__
    assert dataclasses.asdict(score) == dataclasses.asdict(kind())
    assert (type(score).fit is Score.fit) == (not score.fit_needs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_finite_float64_per_example(kind, dtype):
    given = arrays(33, known=True, seed=1)
    given = {k: v if k == "labels" else v.astype(dtype) for k, v in given.items()}
    before = {k: v.copy() for k, v in given.items()}
    found = values(ready(kind), given)
    assert found.shape == (33,) and found.dtype == np.float64
    assert np.isfinite(found).all()
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_higher_is_more_in_distribution(kind):
    score = ready(kind)
    of_id, of_ood = (values(score, arrays(60, known=k, seed=2)) for k in (True, False))
    assert detection(of_id, of_ood)["auroc"] > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_examples_are_scored_each_by_itself(kind):
    given, score = arrays(33, known=True, seed=3), ready(kind)
    rows = np.random.default_rng(1).permutation(33)
    found = values(score, given)
    np.testing.assert_allclose(values(score, taken(given, rows)), found[rows], rtol=1e-12)
    np.testing.assert_allclose(values(score, taken(given, slice(1))), found[:1], rtol=1e-12)
    assert values(score, taken(given, slice(0))).shape == (0,)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.fit_needs])
def test_classes_are_in_no_order(kind):
    given, order = arrays(33, known=True, seed=4), np.random.default_rng(2).permutation(NUM_CLASSES)
    turned = given | {name: given[name][:, order] for name in ("logits", "similarities")}
    turned["class_bank"] = CLASSES[order]
    np.testing.assert_allclose(values(kind(), turned), values(kind(), given), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_at_a_logit_span_of_1e4(kind, dtype):
    given = taken(arrays(3, known=True, seed=5), slice(3))
    given["logits"] = np.array([[-5e3, 5e3, 0, 1, 2], [5e3] * 5, [-5e3] * 5], dtype)
    assert np.isfinite(values(ready(kind), given)).all()
