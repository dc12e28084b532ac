"""Every file of calib_jax/scores keeps the contract: a new score needs no line here."""

import importlib
import inspect
import pathlib

import numpy as np
import pytest

import calib_jax.scores

FOLDER = pathlib.Path(calib_jax.scores.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
NUM_ROWS, NUM_CLASSES = 33, 6


def score_of(name):
    return getattr(importlib.import_module(f"calib_jax.scores.{name}"), name)


def first_parameter(name):
    return next(iter(inspect.signature(score_of(name)).parameters))


def example_input(name, seed=0):
    """Logits with a span of ten, or cosines as CLIP gives them, by the first parameter's name."""
    values = np.random.default_rng(seed).uniform(-1, 1, size=(NUM_ROWS, NUM_CLASSES))
    return {"logits": 5 * values, "similarities": 0.3 * values}[first_parameter(name)]


def test_the_folder_is_not_empty():
    assert {"msp", "max_logit", "energy", "mcm", "max_similarity"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_signature(name):
    first, *others = inspect.signature(score_of(name)).parameters.values()
    assert first.name in ("logits", "similarities")
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_float64_per_example(name, dtype):
    values = example_input(name).astype(dtype)
    before = values.copy()
    scores = score_of(name)(values)
    assert scores.shape == (NUM_ROWS,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(scores, score_of(name)(values.astype(np.float64)))


@pytest.mark.parametrize("name", NAMES)
def test_higher_is_more_in_distribution(name):
    scale = {"logits": 100.0, "similarities": 1.0}[first_parameter(name)]
    matched = [0.35, 0.15, 0.15, 0.15]
    unmatched = [0.18, 0.17, 0.16, 0.15]
    score = score_of(name)(scale * np.array([matched, unmatched]))
    assert score[0] > score[1]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_independent_and_classes_unordered(name):
    values = example_input(name)
    rows = np.random.default_rng(1).permutation(NUM_ROWS)
    classes = np.random.default_rng(2).permutation(NUM_CLASSES)
    scores = score_of(name)(values)
    np.testing.assert_array_equal(score_of(name)(values[rows]), scores[rows])
    np.testing.assert_array_equal(score_of(name)(values[:1]), scores[:1])
    np.testing.assert_allclose(score_of(name)(values[:, classes]), scores, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_at_a_logit_span_of_1e4(name, dtype):
    values = np.array([[-5e3, 5e3, 0], [5e3, 5e3, 5e3], [-5e3, -5e3, -5e3]], dtype)
    assert np.isfinite(score_of(name)(values)).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_examples_give_no_scores(name):
    assert score_of(name)(np.empty((0, 3))).shape == (0,)
