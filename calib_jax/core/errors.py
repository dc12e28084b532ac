"""Errors that a person can act on: one line that says what, where and the fix.

`main` prints the message of a `CalibJaxError` without a stack trace and exits
with `exit_code`. It is 2 when the configuration is wrong (nothing has been
computed), 1 when a run failed on its way.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CalibJaxError(Exception):
    """Base of every error whose message is meant for the person at the keyboard."""

    exit_code = 1


class ConfigError(CalibJaxError, ValueError):
    """A mistake in the configuration or in the inputs it names, found before any work."""

    exit_code = 2


class DataError(CalibJaxError, ValueError):
    """Arrays, records or files whose content cannot be used."""


class TrainingError(CalibJaxError, RuntimeError):
    """Training cannot go on (a loss or gradient that is not finite)."""


class CheckpointError(CalibJaxError, RuntimeError):
    """A checkpoint is damaged, or belongs to another run."""


class ExportError(CalibJaxError, RuntimeError):
    """A trained model cannot be written."""


class WeightsError(ConfigError):
    """A weight file that the config names is missing, damaged, or does not fit the model."""


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """Returns ` Did you mean 'x'?` for the closest known name, or the empty string.

    Args:
        name: What was given.
        known: What it may be.
        cutoff: How alike they must be, 1 being equal; among hundreds, one is alike by chance.
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {matches[0]!r}?" if matches else ""
