"""What `config.py:VARIANT` stands for: one method, or the tuning of all."""

import dataclasses
from collections.abc import Callable

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.experiment import Experiment
from calib_jax.methods.method import Method


def select(
    experiment: Experiment,
    variant: str,
    methods: Callable[[dict[str, float]], dict[str, Method]],
    *,
    rates: tuple[float, ...],
) -> Experiment:
    """The experiment that `config.py:variant` stands for.

    Args:
        experiment: With all its methods: what the empty variant gives.
        variant: A method's name, for that method alone; or `tune`: every trained method at every
            learning rate, one seed, tested on the validation split alone, without any shift
            or OOD set, so that what is chosen from it has seen no reported split.
        methods: Makes the methods from a learning rate for each.
        rates: The learning rates of `tune`; every method gets the same number of trials.

    Raises:
        ConfigError: An unknown variant.
    """
    if not variant:
        return experiment
    if variant in experiment.methods:
        return _alone(experiment, variant)
    held_out = experiment.evaluation.validation
    if variant != "tune" or held_out is None:
        known = ("tune", *experiment.methods)
        raise ConfigError(
            f"--config: got variant {variant!r}, expected one of {', '.join(known)}."
            f"{nearest(variant, known)} Correct what follows the colon."
        )
    evaluation = dataclasses.replace(
        experiment.evaluation,
        id_name="held-out",
        id_split=held_out,
        shifts={},
        near={},
        far={},
        calibrators={},
        conformal_alpha=None,
    )
    return dataclasses.replace(
        experiment,
        name=f"{experiment.name}_tune",
        methods={
            f"{name}_{rate:g}": method
            for rate in rates
            for name, method in methods(dict.fromkeys(experiment.methods, rate)).items()
            if method.terms
        },
        tuning=None,
        weight_space={},
        evaluation=evaluation,
        seeds=experiment.seeds[:1],
        tuned_on="this is the tuning",
    )


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
