"""Every metric and score that takes arrays takes lists and JAX arrays, to the same number."""

import importlib
import inspect
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import calib_jax.metrics
import calib_jax.scores
from calib_jax.core.errors import DataError
from calib_jax.metrics import calibration, classification, selective
from calib_jax.metrics.robustness import Trend

PROBS = np.array([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25], [0.75, 0.125, 0.125], [0.25, 0.25, 0.5]])
ARGUMENTS = {
    "probs": PROBS,
    "logits": np.log(PROBS),
    "similarities": PROBS,
    "labels": np.array([0, 1, 1, 2]),
    "confidence": PROBS.max(axis=1),
    "correct": np.array([True, True, False, True]),
    "scores": np.array([1.0, 2.0, 3.0, 2.5]),
    "is_id": np.array([False, True, True, False]),
    "id_scores": np.array([1.0, 2.0, 3.0]),
    "ood_scores": np.array([0.0, 2.0]),
    "id_accuracy": np.array([0.5, 0.75]),
    "ood_accuracy": np.array([0.25, 0.5]),
}
OTHERS = {"k": 2, "trend": Trend(slope=1.0, intercept=0.0, scale="logit"), "batch_size": 2}
MODULES = [
    importlib.import_module(f"{package.__name__}.{path.stem}")
    for package in (calib_jax.metrics, calib_jax.scores)
    for path in sorted(pathlib.Path(package.__path__[0]).glob("*.py"))
]
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and function.__code__.co_qualname.startswith("takes_lists")
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lists_are_as_good_as_arrays(name):
    function = FUNCTIONS[name]
    needed = [
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if key in ARGUMENTS or parameter.default is parameter.empty
    ]
    arrays = {key: ARGUMENTS.get(key, OTHERS.get(key)) for key in needed}
    lists = {key: ARGUMENTS[key].tolist() if key in ARGUMENTS else OTHERS[key] for key in needed}
    expected = function(**arrays)
    np.testing.assert_equal(function(**lists), expected)
    positional = inspect.getfullargspec(inspect.unwrap(function)).args
    rest = {key: value for key, value in lists.items() if key not in positional}
    np.testing.assert_equal(
        function(*(lists[key] for key in positional if key in lists), **rest), expected
    )


def test_whole_numbers_in_lists():
    assert calibration.calibration_error([1, 0], [1, 0], num_bins=10) == 0
    assert classification.accuracy([[2, 1], [0, 3]], [0, 0]) == 0.5
    assert classification.accuracy(jnp.array([[2.0, 1.0]]), jnp.array([0])) == 1


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8, np.float32])
def test_zeros_and_ones_of_any_type_say_what_is_right(dtype):
    """(0 + 0 + 0 + 1/4) / 4; of `~` of other types it would be -1.94 or 254.06."""
    correct = np.array([1, 1, 1, 0], dtype)
    curve = selective.risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), correct)
    assert selective.aurc(curve) == 0.0625


def test_what_is_no_array_is_one_line():
    with pytest.raises(DataError, match=r"^logits: got rows of different lengths, expected an arr"):
        classification.accuracy([[1.0, 2.0], [1.0]], [0, 1])
