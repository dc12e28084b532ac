"""Every config in calib_jax/calibrators whose fit makes probabilities keeps the contract: a new one
needs no line here, unless it minimises the negative log-likelihood or keeps the predictions."""

import dataclasses
import importlib
import inspect
import io
import pathlib
import typing

import numpy as np
import pytest

import calib_jax.calibrators
from calib_jax.calibrators.calibrator import Calibrator, FittedCalibrator, NotingCalibrator
from calib_jax.core import errors, numerics

FOLDER = pathlib.Path(calib_jax.calibrators.__file__).parent
MODULES = [
    importlib.import_module(f"calib_jax.calibrators.{path.stem}")
    for path in sorted(FOLDER.glob("*.py"))
    if path.stem not in ("__init__", "calibrator")
]


def makes_probabilities(found):
    """Whether a class is the config of a calibrator, by the signature of its fit."""
    if not hasattr(found, "fit"):
        return False
    parameters = list(inspect.signature(found.fit).parameters)
    fitted = typing.get_type_hints(found.fit)["return"]
    return parameters == ["self", "logits", "labels"] and hasattr(fitted, "probs")


CALIBRATORS = {
    name: found
    for module in MODULES
    for name, found in inspect.getmembers(module, inspect.isclass)
    if found.__module__ == module.__name__ and makes_probabilities(found)
}
MINIMISES_NLL = (
    "TemperatureScaling",
    "EnsembleTemperatureScaling",
    "VectorScaling",
    "MatrixScaling",
    "DirichletScaling",
)
KEEPS_PREDICTIONS = ("TemperatureScaling", "EnsembleTemperatureScaling", "MultiIsotonic")
NUM_CLASSES = 4


def split(num_examples=80, seed=0):
    """Overconfident logits of a model that is right more often than not, and labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(num_examples, NUM_CLASSES)) * 1.5
    gumbel = rng.gumbel(size=true.shape)
    return (3 * true + 20).astype(np.float32), (true + gumbel).argmax(axis=1)


def made(name, num_examples):
    config = CALIBRATORS[name]()
    if hasattr(config, "num_bins"):
        config.num_bins = min(config.num_bins, num_examples)
    return config


def nll(probs, labels):
    return -np.log(probs[np.arange(len(labels)), labels]).mean()


def check_distributions(probs, shape):
    assert probs.shape == shape
    assert probs.dtype == np.float64
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_the_folder_is_not_empty():
    assert len(CALIBRATORS) >= 9
    assert set(MINIMISES_NLL) | set(KEEPS_PREDICTIONS) <= set(CALIBRATORS)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_fits_and_saves_as_plain_arrays(name):
    logits, labels = split()
    before = logits.copy()
    fitted = made(name, len(labels)).fit(logits, labels)
    assert isinstance(CALIBRATORS[name](), Calibrator)
    assert isinstance(fitted, FittedCalibrator)
    probs = fitted.probs(logits)
    check_distributions(probs, logits.shape)
    np.testing.assert_array_equal(logits, before)
    # A row's result is its own.
    np.testing.assert_allclose(fitted.probs(logits[3:5]), probs[3:5], rtol=1e-12)
    file = io.BytesIO()
    np.savez(file, **dataclasses.asdict(fitted))
    file.seek(0)
    read = {key: value if value.ndim else value.item() for key, value in np.load(file).items()}
    np.testing.assert_array_equal(type(fitted)(**read).probs(logits), probs)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_order_of_the_examples_does_not_matter(name):
    logits, labels = split()
    order = np.random.default_rng(1).permutation(len(labels))
    probs = made(name, len(labels)).fit(logits, labels).probs(logits)
    shuffled = made(name, len(labels)).fit(logits[order], labels[order]).probs(logits)
    np.testing.assert_allclose(shuffled, probs, rtol=0, atol=2e-5)  # L-BFGS's tolerance


@pytest.mark.parametrize("name", MINIMISES_NLL)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_likelihood_of_the_split_improves(name, seed):
    logits, labels = split(seed=seed)
    probs = CALIBRATORS[name]().fit(logits, labels).probs(logits)
    tempered = CALIBRATORS["TemperatureScaling"]().fit(logits, labels).probs(logits)
    assert nll(tempered, labels) < nll(numerics.softmax(logits), labels) - 0.1
    assert nll(probs, labels) <= nll(tempered, labels) + 1e-8


@pytest.mark.parametrize("name", CALIBRATORS)
def test_notes_on_absent_classes_where_classes_have_parameters(name):
    logits, labels = split()
    noted = {}
    for case, found in (("all", labels), ("absent", np.minimum(labels, NUM_CLASSES - 2))):
        config = made(name, len(found))
        fitted = config.fit(logits, found)
        noted[case] = config.notes(fitted, found) if isinstance(config, NotingCalibrator) else []
    arrays = [value for value in vars(fitted).values() if isinstance(value, np.ndarray)]
    of_classes = any(len(array) in (NUM_CLASSES, NUM_CLASSES + 1) for array in arrays)
    assert noted["all"] == []
    assert len(noted["absent"]) == of_classes
    assert all(f"1 of {NUM_CLASSES} classes have no example" in note for note in noted["absent"])


@pytest.mark.parametrize("name", KEEPS_PREDICTIONS)
@pytest.mark.parametrize("labels_are", ["fair", "all right", "all wrong"])
def test_predictions_stay(name, labels_are):
    logits, labels = split()
    if labels_are == "all right":
        labels = logits.argmax(axis=1)
    if labels_are == "all wrong":
        labels = logits.argmin(axis=1)
    other, _ = split(seed=5)
    probs = CALIBRATORS[name]().fit(logits, labels).probs(other)
    np.testing.assert_array_equal(probs.argmax(axis=1), other.argmax(axis=1))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_degenerate_splits(name):
    logits, labels = split(20)
    cases = {
        "one example": (logits[:1], labels[:1]),
        "one column": (logits[:, :1], np.zeros_like(labels)),
        "one label": (logits, np.full_like(labels, 2)),
        "absent class": (logits, np.minimum(labels, NUM_CLASSES - 2)),
        "all right": (logits, logits.argmax(axis=1)),
        "all wrong": (logits, logits.argmin(axis=1)),
        "constant": (np.ones_like(logits, np.float64), labels),
        "span of 1e4": (1000 * (logits - logits.mean()), labels),
    }
    extreme = np.array([[-5e3, 5e3, 0, 1], [5e3] * 4, [0] * 4], np.float32)
    for case_logits, case_labels in cases.values():
        fitted = made(name, len(case_labels)).fit(case_logits, case_labels)
        check_distributions(fitted.probs(case_logits), case_logits.shape)
        others = extreme[:, : case_logits.shape[1]]
        check_distributions(fitted.probs(others), others.shape)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_bad_splits(name):
    logits, labels = split(20)
    config = made(name, len(labels))
    fitted = config.fit(logits, labels)
    bad = logits.copy()
    bad[2, 1] = np.nan
    for call in (lambda: config.fit(bad, labels), lambda: fitted.probs(bad)):
        with pytest.raises(errors.DataError, match=r"^logits: got nan at \[2, 1\], expected"):
            call()
    for call in (lambda: config.fit(logits[:0], labels[:0]), lambda: fitted.probs(logits[:0])):
        with pytest.raises(errors.DataError, match="^logits: got 0 examples, expected at least 1"):
            call()
    with pytest.raises(errors.DataError, match=r"^labels: got 4 at \[0\], expected a class in"):
        config.fit(logits, np.full_like(labels, NUM_CLASSES))
