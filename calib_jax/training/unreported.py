"""The steps of a training that no row of its history tells yet."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from calib_jax.training.logbook import summary
from calib_jax.training.step import Metrics

AHEAD = 2
"""Steps that the host is ahead of the device: it never waits, and a signal need not for more."""

_KEY = "unreported"  # in a checkpoint's position, beside the data iterator's own


class Unreported:
    """Metrics since the last row, on the device until they are needed.

    A stop between two rows keeps them in the checkpoint, so that the next row is as without it.
    """

    def __init__(self, name: str, batch_size: int, position: dict[str, Any] | None):
        """Takes what an earlier stop has kept.

        Args:
            name: The phase, for messages.
            batch_size: Examples a step.
            position: The checkpoint's, from which it takes out its own; None: there is none.
        """
        self._name, self._batch_size = name, batch_size
        kept = [] if position is None else position.pop(_KEY, [])
        self._steps: list[Any] = [{k: np.float32(v) for k, v in row.items()} for row in kept]
        self._num_earlier, self._since = len(kept), time.monotonic()

    def append(self, metrics: Metrics) -> dict[str, Any]:
        """The `loss` of `AHEAD` steps ago, which is then finished; empty right after a row.

        Args:
            metrics: Of a step that has just been started.
        """
        self._steps.append(metrics)
        if len(self._steps) <= AHEAD:
            return {}
        return {"loss": jax.block_until_ready(self._steps[-1 - AHEAD]["loss"])}

    def row(self, step: int) -> dict[str, Any]:
        """The row of these steps, of which this is the last; from here on there are none.

        Raises:
            TrainingError: As `summary`.
        """
        row = summary(jax.device_get(self._steps), last=step, name=self._name)
        num_examples = (len(self._steps) - self._num_earlier) * self._batch_size
        row["examples_per_second"] = num_examples / (time.monotonic() - self._since)
        self._steps, self._num_earlier = [], 0
        return row

    def restart_clock(self) -> None:
        """Time counts from here: not what is done between two steps."""
        self._since = time.monotonic()

    def kept(self, step: int) -> dict[str, Any]:
        """What a checkpoint's position holds of them, as JSON; empty after a row.

        Raises:
            TrainingError: As `summary`: no checkpoint has a step that is not finite.
        """
        if not self._steps:
            return {}
        rows = jax.device_get(self._steps)
        summary(rows, last=step, name=self._name)
        return {_KEY: [{name: float(value) for name, value in row.items()} for row in rows]}
