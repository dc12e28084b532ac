"""The candidates of hyper-parameters among which a run chooses."""

import dataclasses
from typing import Literal

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.methods.method import Method


@dataclasses.dataclass(kw_only=True)
class Tuning:
    """Hyper-parameters chosen on the validation split, as a part of the run.

    Every trial is trained with the run's first seed; the one of the lowest validation metric is
    what `methods` of that name stands for, for all seeds.

    Attributes:
        trials: For each tuned method its candidates, each under a short name; `methods` has one of
            them.
        metric: Of the validation split; the lowest wins, the first of equals.
    """

    trials: dict[str, dict[str, Method]]
    metric: Literal["nll", "brier", "ece_15"] = "nll"

    def validate(self, methods: dict[str, Method]) -> None:
        """Raises a ConfigError for trials of no method, no trials, or unequal budgets."""
        for name, trials in self.trials.items():
            if name not in methods:
                raise ConfigError(
                    f"tuning.trials: got {name!r}, expected names of methods: "
                    f"{', '.join(methods)}.{nearest(name, methods)} Correct it."
                )
            if not trials or not all(method.terms for method in trials.values()):
                raise ConfigError(
                    f"tuning.trials.{name}: got {len(trials)} trials, expected at least one, each "
                    "of them trained. Correct it."
                )
            if methods[name] not in trials.values():
                raise ConfigError(
                    f"methods.{name}: it is none of the trials of tuning.trials.{name}, of which "
                    "one will take its place. Change the trials, or take it out of the tuning."
                )
        budgets = {name: len(trials) for name, trials in self.trials.items()}
        if len(set(budgets.values())) > 1:
            fewest, *_, most = sorted(budgets, key=budgets.__getitem__)
            raise ConfigError(
                f"tuning.trials: got {budgets[fewest]} for {fewest} and {budgets[most]} for {most},"
                " expected as many for each. Add trials: unequal budgets favour a method."
            )
