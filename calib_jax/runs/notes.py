"""What a config may say, and probably does not mean."""

from __future__ import annotations

from calib_jax.runs.experiment import Experiment


def notes(experiment: Experiment) -> list[str]:
    """A line for each setting that is possible and makes little sense; none in most configs."""
    found = []
    for phase in experiment.phases():
        num_steps = experiment.stage(phase.stage).training.num_steps
        found += phase.method.notes(phase.where, num_steps=num_steps)
    return found
