"""Every message of a bad array. Shapes are tested here: the run-time shape checks of the
tests would stop a mismatch before the public functions saw it."""

import ml_dtypes
import numpy as np
import pytest

from calib_jax.core import errors, inputs, numerics
from calib_jax.metrics import outcomes

PROBS = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
LABELS = np.array([2, 0])


def replaced(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_good_arrays_pass():
    inputs.check_probs(PROBS, LABELS)
    inputs.check_probs(PROBS.astype(np.float16), LABELS.astype(np.int32))
    inputs.check_matrix(np.array([[-3e38, 3e38]], np.float32), np.array([1]), name="logits")
    inputs.check_binary(np.array([True, False]), name="is_id")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    with pytest.raises(errors.DataError, match=rf"^logits: got {value} at \[1, 2\], expected fin"):
        inputs.check_matrix(replaced(PROBS, (1, 2), value), LABELS, name="logits")
    with pytest.raises(errors.DataError, match=rf"^scores: got {value} at \[1\], expected finite"):
        inputs.check_finite(np.array([0.0, value, np.nan]), name="scores")


def test_the_first_bad_index_is_named():
    values = replaced(replaced(PROBS, (0, 1), -np.inf), (1, 0), np.nan)
    with pytest.raises(errors.DataError, match=r"got -inf at \[0, 1\]"):
        inputs.check_finite(values, name="logits")


@pytest.mark.parametrize("label", [-1, 3])
def test_label_outside(label):
    with pytest.raises(
        errors.DataError, match=rf"^labels: got {label} at \[1\], expected a class in \[0, 3\)"
    ):
        inputs.check_matrix(PROBS, np.array([0, label]), name="logits")


def test_shapes():
    with pytest.raises(errors.DataError, match=r"labels: got shape \(3,\), expected \(2,\) to mat"):
        inputs.check_matrix(PROBS, np.zeros(3, int), name="logits")
    with pytest.raises(errors.DataError, match=r"labels: got shape \(2, 1\), expected \(2,\)"):
        inputs.check_matrix(PROBS, LABELS[:, None], name="logits")
    for bad in (PROBS[0], PROBS[:, :0]):
        with pytest.raises(errors.DataError, match=r"logits: got shape .* expected \(examples, cl"):
            inputs.check_matrix(bad, LABELS, name="logits")


def test_empty():
    with pytest.raises(errors.DataError, match="probs: got 0 examples, expected at least 1"):
        inputs.check_probs(PROBS[:0], LABELS[:0])


def test_logits_given_as_probs():
    with pytest.raises(errors.DataError, match=r"probs: got -0.1 at \[0, 1\], expected at least 0"):
        inputs.check_probs(replaced(replaced(PROBS, (0, 1), -0.1), (0, 2), -0.5), LABELS)
    with pytest.raises(errors.DataError, match=r"probs: got a sum of 1.1 in row \[1\], expected 1"):
        inputs.check_probs(replaced(PROBS, (1, 2), 0.1), LABELS)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_probs_in_half_precision(dtype, num_classes):
    logits = 3 * np.random.default_rng(0).normal(size=(300, num_classes))
    logits[0] = 0
    probs, labels = numerics.softmax(logits), np.zeros(300, int)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(dtype)
    total = powers.sum(axis=1, dtype=np.float32, keepdims=True).astype(dtype)
    for made in (probs.astype(dtype), (powers / total).astype(dtype)):
        inputs.check_probs(made, labels)
        assert outcomes.of_probs(made, labels).confidence.max() <= 1
    # Far enough for the sum to lie outside whatever the rounding.
    for wrong in (1.02 * probs, 0.98 * probs, probs + 0.02 / num_classes):
        for check in (inputs.check_probs, outcomes.of_probs):
            with pytest.raises(errors.DataError, match=r"^probs: got a sum of .* in row \[0\],"):
                check(wrong.astype(dtype), labels)
    with pytest.raises(errors.DataError, match="^probs: got "):
        inputs.check_probs(logits.astype(dtype), labels)


def test_the_tolerance_follows_the_precision():
    tolerances = [inputs.sum_tolerance(np.dtype(d)) for d in (ml_dtypes.bfloat16, "f2", "f4", int)]
    assert tolerances == pytest.approx([1e-3 + 2**-7, 1e-3 + 2**-10, 1e-3, 1e-3], abs=1e-6)


def test_bfloat16_logits():
    logits = np.array([[1.5, -3.0], [0.25, 2.0]], ml_dtypes.bfloat16)
    inputs.check_matrix(logits, np.array([0, 1]), name="logits")
    logits[1, 0] = np.nan
    with pytest.raises(errors.DataError, match=r"^logits: got nan at \[1, 0\]"):
        inputs.check_unlabelled(logits, name="logits")


def test_binary():
    with pytest.raises(errors.DataError, match=r"is_id: got -1 at \[1\], expected 0 or 1"):
        inputs.check_binary(np.array([1, -1]), name="is_id")


def test_num_bins():
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        inputs.check_num_bins(0)


@pytest.mark.parametrize("dtype", [complex, object, str])
def test_no_numbers(dtype):
    with pytest.raises(errors.DataError, match=r"^logits: got dtype .*, expected real numbers"):
        inputs.check_matrix(PROBS.astype(dtype), LABELS, name="logits")


def test_labels_are_integers():
    for dtype in (float, bool):
        with pytest.raises(errors.DataError, match=r"^labels: got dtype .*, expected integers"):
            inputs.check_labels(LABELS.astype(dtype), num_classes=3)
    with pytest.raises(errors.DataError, match=r"^predicted: got 2 at \[0\], expected a class in"):
        inputs.check_labels(LABELS, num_classes=2, name="predicted")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_without_labels(value):
    rows = np.ones((2, 3))
    inputs.check_unlabelled(rows, name="zero_shot")
    rows[1, 2] = value
    with pytest.raises(errors.DataError, match=rf"^zero_shot: got {value} at \[1, 2\]"):
        inputs.check_unlabelled(rows, name="zero_shot")
    for bad in (rows[0], rows[:, :0]):
        with pytest.raises(errors.DataError, match=r"^x: got shape .* expected \(exampl"):
            inputs.check_unlabelled(bad, name="x")
    with pytest.raises(errors.DataError, match="^x: got 0 examples, expected at least 1"):
        inputs.check_unlabelled(rows[:0], name="x")


def test_rows_that_look_like_probabilities():
    rows = np.array([[0.5, 0.5], [0.9, 0.1]])
    with pytest.raises(errors.DataError, match=r"^x: got rows .*\(the first 2\), expected logits"):
        inputs.check_not_probs(rows, name="x")
    for others in (
        rows * 2,
        rows - 0.1,
        rows[:, :1] * 0 + 1,
        np.append(rows, [[1.0, 1.0]], axis=0),
    ):
        inputs.check_not_probs(others, name="x")
    inputs.check_not_probs(np.full((2, 2), np.nan), name="x")
