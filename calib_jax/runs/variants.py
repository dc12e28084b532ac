"""What `config.py:VARIANT` stands for: one method, or all of them tuned first."""

import dataclasses

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.runs.experiment import Experiment, Tuning


def select(experiment: Experiment, variant: str, tuning: Tuning) -> Experiment:
    """The experiment that `config.py:variant` stands for.

    Args:
        experiment: With all its methods: what the empty variant gives.
        variant: A method's name, for that method alone; or `tune`, for all after the tuning.
        tuning: Of `tune`.

    Raises:
        ConfigError: An unknown variant.
    """
    if not variant:
        return experiment
    if variant in experiment.methods:
        return _alone(experiment, variant)
    if variant != "tune":
        known = ("tune", *experiment.methods)
        raise ConfigError(
            f"--config: got variant {variant!r}, expected one of {', '.join(known)}."
            f"{nearest(variant, known)} Correct what follows the colon."
        )
    return dataclasses.replace(experiment, name=f"{experiment.name}_tune", tuning=tuning)


def _alone(experiment: Experiment, name: str) -> Experiment:
    """One method, its own trials and the rows made of it."""
    tuning = experiment.tuning
    if tuning is not None:
        trials = {key: value for key, value in tuning.trials.items() if key == name}
        tuning = dataclasses.replace(tuning, trials=trials) if trials else None
    return dataclasses.replace(
        experiment,
        methods={name: experiment.methods[name]},
        tuning=tuning,
        weight_space={k: row for k, row in experiment.weight_space.items() if row.of == name},
    )
