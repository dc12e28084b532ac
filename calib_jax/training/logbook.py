"""Where one training keeps its files, and the rows it writes of its steps."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.core.errors import DataError, TrainingError
from calib_jax.core.progress import StageProgress, board
from calib_jax.core.types import Params
from calib_jax.training.history import History


@dataclasses.dataclass(frozen=True)
class Logbook:
    """Where one training keeps its files.

    Attributes:
        name: The phase, in the history.
        seed: For the history.
        directory: Of the checkpoints.
        config: Of the run, for the checkpoints.
        history: Gets a row every `log_every` steps.
    """

    name: str
    seed: int
    directory: pathlib.Path
    config: Mapping[str, Any]
    history: History

    def stage(self, first: int, last: int) -> StageProgress:
        """The progress of the training, from one step to another, to be opened by `with`."""
        title = training_title(self.name, self.seed)
        return board().stage(title, total=last, unit="step", initial=first, compiles=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row; scalars of any kind become floats."""
        values = {
            key: value if isinstance(value, (int, dict)) else float(value)
            for key, value in row.items()
        }
        self.history.append({"phase": self.name, "seed": self.seed, **values})

    def rewind(self, step: int) -> None:
        """Drops the rows after a step, which is about to be trained again."""
        self.history.rewind(self.name, self.seed, step)


def training_title(phase: str, seed: int) -> str:
    """`carot, seed 0`: what the progress of a training is called."""
    return f"{phase}, seed {seed}"


_ADVICE = "The last good checkpoint is kept. Lower the learning rate, or look at the data."
"""To who sees a training break down."""


def summary(steps: Sequence[Mapping[str, Any]], *, last: int, name: str) -> dict[str, Any]:
    """The row of some steps: means over them, but the learning rate of the last.

    Args:
        steps: The metrics of each.
        last: The number of the last.
        name: The phase, for the message.

    Raises:
        TrainingError: A loss or a norm is NaN or infinite.
    """
    for number, metrics in enumerate(steps, start=last - len(steps) + 1):
        for key in ("loss", "gradient_norm", "parameter_norm"):
            if not math.isfinite(metrics[key]):
                terms = {k: float(v) for k, v in metrics.items() if k.startswith("terms/")}
                raise TrainingError(
                    f"{name}: {key} is {float(metrics[key])} at step {number} "
                    f"({', '.join(f'{k}={v:.4g}' for k, v in terms.items())}). {_ADVICE}"
                )
    means = {key: float(np.mean([m[key] for m in steps])) for key in steps[0]}
    means["learning_rate"] = float(steps[-1]["learning_rate"])
    terms = {k.removeprefix("terms/"): v for k, v in means.items() if k.startswith("terms/")}
    rest = {k: v for k, v in means.items() if not k.startswith("terms/")}
    return {"step": last, **rest, "terms": terms}


def probed(
    probe: Callable[[Params], Mapping[str, float]], params: Params, step: int, name: str
) -> Mapping[str, float]:
    """What a probe says of the parameters after a step.

    Args:
        probe: Judges them on the validation split.
        params: The parameters.
        step: The number of the step.
        name: The phase, for the message.

    Raises:
        TrainingError: The parameters are finite, and their logits are not.
    """
    try:
        return probe(params)
    except DataError as error:
        what = str(error).partition(", expected")[0]
        if not re.search(r": got (nan|-?inf) at ", what):
            raise
        raise TrainingError(
            f"{name}: on the validation split, {what} after step {step}. {_ADVICE}"
        ) from error
