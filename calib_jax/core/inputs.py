"""What metrics and calibrators ask of their arrays, and the one-line errors where they miss it.

The checks look at row extrema and row sums only: no temporary as large as the split.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt

from calib_jax.core import errors

# Of sums of probabilities that were made in float32, be it by a sloppy softmax.
SUM_TOLERANCE = 1e-3

MAX_BINS = 1_000_000

_P = ParamSpec("_P")
_R = TypeVar("_R")


def takes_lists(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, which takes lists, JAX arrays and torch tensors too, wherever it takes arrays.

    Where its annotation says `Float`, whole numbers of lists become float64. Where it says `Bool`,
    zeros and ones of any type become booleans: `~` of them would be other numbers. Else NumPy
    arrays stay as they are.
    """
    parameters = inspect.signature(function).parameters
    hints = {key: str(parameter.annotation) for key, parameter in parameters.items()}

    def read(name: str, value: Any) -> Any:
        hint = hints.get(name, "")
        if "ndarray" not in hint or (isinstance(value, np.ndarray) and "Bool" not in hint):
            return value
        array = as_array(value, name=name)
        if array.dtype.kind in "iu" and "Float" in hint:
            return array.astype(np.float64)
        if array.dtype.kind in "iuf" and "Bool" in hint and np.isin(array, (0, 1)).all():
            return array.astype(np.bool_)
        return array

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        positional = [read(*pair) for pair in zip(parameters, args, strict=False)]
        named = {key: read(key, value) for key, value in kwargs.items()}
        return cast(Any, function)(*positional, *args[len(positional) :], **named)

    return cast(Callable[_P, _R], call)


def as_array(values: npt.ArrayLike, *, name: str) -> np.ndarray:
    """The values as an array; what NumPy can read of other libraries, and lists.

    Raises:
      DataError: naming them, for masked entries, rows of different lengths, and what is no array.
    """
    if np.ma.is_masked(values):
        raise errors.DataError(
            f"{name}: got masked entries, expected a number in each. Drop the masked examples."
        )
    try:
        return np.asarray(values)
    except ValueError:
        raise errors.DataError(
            f"{name}: got rows of different lengths, expected an array. Pass rows of one length."
        ) from None
    except (TypeError, RuntimeError) as error:  # torch's: bfloat16, on a GPU, with a gradient
        raise errors.DataError(
            f"{name}: got {type(values).__name__} that NumPy cannot read ({error}), expected an "
            "array. Of a torch tensor pass tensor.detach().float().cpu()."
        ) from None


def sum_tolerance(dtype: np.dtype) -> float:
    """How far from 1 a row of probabilities may sum: 0.001 and what the precision explains.

    A softmax divides by a rounded sum and rounds the quotients. Each changes an entry by half the
    spacing at 1, relatively. So the sum, 1 before, changes by the spacing at most, however many the
    classes: 0.001 of float16, 0.008 of bfloat16.
    """
    return SUM_TOLERANCE + float(np.spacing(np.ones((), dtype)))


def check_same_length(first: np.ndarray, second: np.ndarray, *, names: tuple[str, str]) -> None:
    """Raises a DataError unless both arrays have one entry per example, and there is one.

    Raises:
      DataError: naming the array at fault.
    """
    if second.ndim != 1 or len(second) != len(first):
        raise errors.DataError(
            f"{names[1]}: got shape {second.shape}, expected ({len(first)},) to match {names[0]} "
            f"{first.shape}. Pass one entry per example."
        )
    check_not_empty(first, name=names[0])


def check_not_empty(values: np.ndarray, *, name: str) -> None:
    """Raises a DataError where there is no example.

    Raises:
      DataError: naming the array.
    """
    if len(values) == 0:
        raise errors.DataError(
            f"{name}: got 0 examples, expected at least 1. Check the split and its mask."
        )


def check_finite(values: np.ndarray, *, name: str) -> None:
    """Raises a DataError for a vector or matrix with an entry that is NaN or infinite.

    Raises:
      DataError: naming the array and its first bad index.
    """
    if values.ndim == 1:
        finite = np.isfinite(values)
    else:  # NaN travels through both extrema
        finite = np.isfinite(values.max(axis=1)) & np.isfinite(values.min(axis=1))
    if finite.all():
        return
    index = [int(np.argmin(finite))]
    if values.ndim > 1:
        index.append(int(np.argmin(np.isfinite(values[index[0]]))))
    raise errors.DataError(
        f"{name}: got {values[tuple(index)]} at {index}, expected finite numbers. "
        "Find the model or score that made it."
    )


def check_shapes(values: np.ndarray, labels: np.ndarray, *, name: str) -> None:
    """Raises a DataError unless `values` is a matrix [n c] with an entry of `labels` per row.

    Raises:
      DataError: for a wrong shape, an empty split, or values that are not real numbers.
    """
    _check_rows(values, name=name)
    check_same_length(values, labels, names=(name, "labels"))


def _check_rows(values: np.ndarray, *, name: str) -> None:
    if values.ndim != 2 or values.shape[1] == 0:
        raise errors.DataError(
            f"{name}: got shape {values.shape}, expected (examples, classes). "
            "Pass one row per example."
        )
    if not np.can_cast(values.dtype, np.float64, "same_kind"):
        raise errors.DataError(
            f"{name}: got dtype {values.dtype}, expected real numbers. "
            "Convert the array to float32."
        )


def check_labels(labels: np.ndarray, *, num_classes: int, name: str = "labels") -> None:
    """Raises a DataError unless every entry is the number of a class.

    Raises:
      DataError: for numbers that are no integers, or a class outside [0, num_classes).
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise errors.DataError(
            f"{name}: got dtype {labels.dtype}, expected integers. Pass the number of a class."
        )
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise errors.DataError(
            f"{name}: got {labels[row]} at [{row}], expected a class in [0, {num_classes}). "
            "Drop padding rows and number the labels like the columns."
        )


def check_matrix(values: np.ndarray, labels: np.ndarray, *, name: str) -> None:
    """Raises a DataError unless `values` [n c] is finite and `labels` [n] name its columns.

    Raises:
      DataError: as `check_shapes` and `check_labels`, and for NaN or infinity.
    """
    check_shapes(values, labels, name=name)
    check_finite(values, name=name)
    check_labels(labels, num_classes=values.shape[1])


def check_unlabelled(values: np.ndarray, *, name: str) -> None:
    """Raises a DataError unless there is an example, and a row of finite numbers for each.

    Raises:
      DataError: for a wrong shape, an empty split, NaN or infinity.
    """
    _check_rows(values, name=name)
    check_not_empty(values, name=name)
    check_finite(values, name=name)


def check_probs(probs: np.ndarray, labels: np.ndarray) -> None:
    """Raises a DataError unless the rows of `probs` are distributions over the labels' classes.

    Raises:
      DataError: as `check_matrix`, and for a negative entry or a row that does not sum to 1.
    """
    check_matrix(probs, labels, name="probs")
    lowest = probs.min(axis=1)
    if (lowest < 0).any():
        row = int(np.argmax(lowest < 0))
        column = int(np.argmax(probs[row] < 0))
        raise errors.DataError(
            f"probs: got {probs[row, column]} at [{row}, {column}], expected at least 0. "
            "Apply softmax to logits first."
        )
    sums = probs.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1) > sum_tolerance(probs.dtype)
    if off.any():
        row = int(np.argmax(off))
        raise errors.DataError(
            f"probs: got a sum of {sums[row]:.6g} in row [{row}], expected 1. "
            "Apply softmax to logits first."
        )


def check_not_probs(logits: np.ndarray, *, name: str) -> None:
    """Raises a DataError where every row is a distribution over two classes or more.

    Raises:
      DataError: for probabilities.
    """
    first = logits[:1000].astype(np.float64)
    off = np.abs(first.sum(axis=1) - 1)
    if first.shape[1] > 1 and first.min() >= 0 and (off <= sum_tolerance(logits.dtype)).all():
        raise errors.DataError(
            f"{name}: got rows that are at least 0 and sum to 1 (the first {len(first)}), expected "
            "logits. Pass probs=True (in a file call them probs), or probs=False if they are none."
        )


def check_binary(values: np.ndarray, *, name: str) -> None:
    """Raises a DataError unless every entry is 0 or 1 (or a bool).

    Raises:
      DataError: naming the array and its first bad index.
    """
    other = (values != 0) & (values != 1)
    if other.any():
        row = int(np.argmax(other))
        raise errors.DataError(
            f"{name}: got {values[row]} at [{row}], expected 0 or 1. Pass a mask, not labels."
        )


def check_num_bins(num_bins: int) -> None:
    """Raises a ConfigError unless there is at least one bin, and no more than memory is for.

    Raises:
      ConfigError: naming the value.
    """
    if not 1 <= num_bins <= MAX_BINS:
        raise errors.ConfigError(
            f"num_bins: got {num_bins}, expected at least 1 and at most {MAX_BINS:,}. The papers "
            "use 10 or 15."
        )
