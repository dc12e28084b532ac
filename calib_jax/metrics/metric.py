"""What a number is called, its unit and its better side; and a metric, which also says how.

A metric of one's own is one object in one file: `ERROR = Metric(title="error", ...)`, chosen in the
config by a key, `Evaluation.metrics = {"error": ERROR}`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float

from calib_jax.metrics import calibration, selective
from calib_jax.metrics.bootstrap import Statistic
from calib_jax.metrics.calibration import BrierDecomposition
from calib_jax.metrics.outcomes import Outcomes
from calib_jax.metrics.selective import RiskCoverage

Unit = Literal["fraction", "points", "nats", "classes", "seconds", "steps", "1"]
"""Fractions lie in 0..1, points are differences of them: people read both times 100."""

Direction = Literal["higher", "lower", "neither"]
"""Which side is better."""

BINS = "{bins}"
"""What stands in a key and in a title for the number of bins."""

ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "neither": ""}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number that is printed or recorded.

    Attributes:
        title: A few words for a column.
        direction: The better side.
        unit: Of the recorded number.
        meaning: What it is, for the documentation.
        decimals: That are shown; None: one of a percentage, three of anything else.
        biased: Whether sampling noise raises it: of its interval only the width says something.
    """

    title: str
    direction: Direction
    unit: Unit = "fraction"
    meaning: str = ""
    decimals: int | None = None
    biased: bool = False

    @property
    def heading(self) -> str:
        """The title with an arrow to the better side."""
        return f"{self.title} {ARROWS[self.direction]}".rstrip()

    @property
    def scale(self) -> float:
        """What the recorded number is multiplied by where people read it."""
        return 100.0 if self.unit in ("fraction", "points") else 1.0

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, else 0."""
        return {"higher": 1, "lower": -1, "neither": 0}[self.direction]

    @property
    def shown_decimals(self) -> int:
        """Digits after the point."""
        return (1 if self.scale == 100 else 3) if self.decimals is None else self.decimals


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitView:
    """What a metric may look at of a labelled split; what several share is made once.

    Attributes:
        outcomes: What became of every example.
        num_bins: Of the calibration errors.
        probs: Makes the probabilities of the split's classes; only resamples of the class-wise
            error ask for them.
    """

    outcomes: Outcomes
    num_bins: int = 15
    probs: Callable[[], Float[np.ndarray, "n c"]] | None = None

    @functools.cached_property
    def curve(self) -> RiskCoverage:
        """Risk by coverage of thresholds on the confidence."""
        return selective.risk_coverage(self.outcomes.confidence, self.outcomes.correct)

    @functools.cached_property
    def brier_parts(self) -> BrierDecomposition:
        """Of the Brier score of the confidence in the answer."""
        top = (self.outcomes.confidence, self.outcomes.correct)
        return calibration.brier_decomposition(*top, num_bins=self.num_bins)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(Quantity):
    """A number of a labelled split: what it is called, and how it is made.

    Attributes:
        value: The number; may be infinite or NaN, which records have as null.
        statistic: The same as a function of how often each example is drawn; None: no interval.
        one_answer: Whether it asks for the one class of an example: undefined where several are
            right.
        by_class: Whether a resample takes time with the number of classes.
        also_bins: Numbers of bins that it is always given for, beside those of the record; for keys
            that carry the number, such as `ece_{bins}`.
    """

    value: Callable[[SplitView], float]
    statistic: Callable[[SplitView], Statistic] | None = None
    one_answer: bool = False
    by_class: bool = False
    also_bins: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairMetric(Quantity):
    """A number of the scores of ID and of OOD examples.

    Attributes:
        statistic: Of both scores: the number as a function of how often each example is drawn.
    """

    statistic: Callable[[Float[np.ndarray, " i"], Float[np.ndarray, " o"]], Statistic]
