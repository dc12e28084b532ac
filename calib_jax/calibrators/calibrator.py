"""The protocol of the calibrators: a config that fits, and what it has fitted."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@runtime_checkable
class FittedCalibrator(Protocol):
    """A map of logits to probabilities.

    A frozen dataclass of numbers and arrays only: `dataclasses.asdict` of it can be written to
    JSON or npz, and its class called with what is read. Those that map logits to logits also have
    `logits`, with `probs` their softmax.
    """

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Calibrated class probabilities in float64; every row sums to 1.

        Raises:
            DataError: Logits that are empty, not finite or not of the classes of the fit.
        """


@runtime_checkable
class Calibrator(Protocol):
    """Settings of a post-hoc calibrator."""

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> FittedCalibrator:
        """The calibrator for a model, from its logits on a split that is reported nowhere.

        Raises:
            ConfigError: A setting out of range.
            DataError: An empty split, mismatched shapes, NaN, infinity or a label outside [0, c).
        """
