"""What calibrators ask beside `core.inputs`, and the one-line errors when they do not get it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from calib_jax.core import inputs
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.settings import Root

_MAX_NAMED = 5


def check_fitted(logits: np.ndarray, num_classes: int) -> None:
    """Raises a DataError unless the logits have the classes that the calibrator was fitted on.

    Raises:
        DataError: As `core.inputs.check_unlabelled`, and for another number of classes.
    """
    inputs.check_unlabelled(logits, name="logits")
    if logits.shape[1] != num_classes:
        raise DataError(
            f"logits: got {logits.shape[1]} classes, expected {num_classes} as in the fit. "
            "Calibrate first, then restrict the classes."
        )


def check_settings(calibrators: Mapping[str, Any], *, where: str) -> None:
    """Raises a ConfigError for a setting that would be refused at the fit, before a training is.

    Args:
        calibrators: By name; those with a `validate` say what is wrong with themselves.
        where: The field that holds them.

    Raises:
        ConfigError: Naming the calibrator and the setting.
    """
    for name, calibrator in calibrators.items():
        if not isinstance(calibrator, Root):
            continue
        try:
            calibrator.validate()
        except ConfigError as error:
            raise ConfigError(f"{where}.{name}.{error}".lstrip(".")) from None


def check_count(value: int, *, name: str) -> None:
    """Raises a ConfigError unless the setting is at least 1.

    Raises:
        ConfigError: Naming the setting.
    """
    if value < 1:
        raise ConfigError(f"{name}: got {value}, expected at least 1. Correct it.")


def check_positive(value: float | int, *, name: str) -> None:
    """Raises a ConfigError unless the setting is a finite number above 0.

    Raises:
        ConfigError: Naming the setting.
    """
    if not 0 < value < math.inf:
        raise ConfigError(f"{name}: got {value}, expected a finite number > 0. Correct it.")


def check_not_negative(value: float | int, *, name: str) -> None:
    """Raises a ConfigError unless the setting is a finite number of at least 0.

    Raises:
        ConfigError: Naming the setting.
    """
    if not 0 <= value < math.inf:
        raise ConfigError(f"{name}: got {value}, expected a finite number >= 0. Correct it.")


def check_bins_can_be_filled(num_bins: int, num_examples: int) -> None:
    """Raises an error unless every one of the bins can hold an example.

    Raises:
        DataError: More bins than examples.
    """
    if num_examples < num_bins:
        raise DataError(
            f"logits: got {num_examples} examples, expected at least num_bins={num_bins}. "
            "Use fewer bins or a larger calibration split."
        )


def notes_on_classes(labels: Int[np.ndarray, " n"], *, num_classes: int) -> list[str]:
    """One note, if there are classes without an example; none otherwise."""
    absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0).tolist()
    if not absent:
        return []
    named = ", ".join(map(str, absent[:_MAX_NAMED])) + ", ..." * (len(absent) > _MAX_NAMED)
    return [
        f"{len(absent)} of {num_classes} classes have no example in the split it was fitted on "
        f"({named}): it has learnt nothing of them but their absence"
    ]
