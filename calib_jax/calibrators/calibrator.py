"""The protocols of the calibrators: a config that fits, what it has fitted, and a map of pairs."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

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
    """Settings of a post-hoc calibrator.

    One with a method `validate` is asked before any training (`checks.check_settings`).
    """

    def fit(
        self, logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
    ) -> FittedCalibrator:
        """The calibrator for a model, from its logits on a split that is reported nowhere.

        Raises:
            ConfigError: A setting out of range.
            DataError: An empty split, mismatched shapes, NaN, infinity or a label outside [0, c).
        """


@runtime_checkable
class NotingCalibrator(Calibrator, Protocol):
    """A calibrator that says where a fit rests on less than it seems."""

    def notes(self, fitted: Any, labels: Int[np.ndarray, " n"]) -> list[str]:
        """A line for each doubt about what it fitted to these labels."""


@runtime_checkable
class PairedCalibrator(Protocol):
    """A map of a model's logits by the pre-trained model's for the same examples; no fit."""

    def scaled(
        self, logits: Float[np.ndarray, "n c"], zero_shot: Float[np.ndarray, "n c"]
    ) -> Float[np.ndarray, "n c"]:
        """Logits in float64, whose softmax are the calibrated probabilities.

        Raises:
            DataError: Logits that are empty or not finite, or of different shapes.
        """
