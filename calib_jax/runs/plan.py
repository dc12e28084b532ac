"""What a run still has to do, for the time that its progress says is left."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence

from calib_jax.core.progress import Work
from calib_jax.methods.method import Method
from calib_jax.optim.logistic import LogisticRegression
from calib_jax.runs.experiment import FINETUNE, PRETRAIN, Experiment
from calib_jax.runs.trainer import Trainer
from calib_jax.training.logbook import training_title

Chosen = Mapping[str, tuple[str, Method]]
"""The phase and the method of each row that is trained."""


def evaluation_title(name: str, seed: int) -> str:
    """What the progress of a row's evaluation is called."""
    return f"evaluate {name}, seed {seed}"


def zero_shot_title(seed: int) -> str:
    """What the progress of the pre-trained model's predictions is called."""
    return f"zero-shot, seed {seed}"


def candidates(experiment: Experiment) -> dict[str, tuple[str, Method]]:
    """Each row's phase and method as far as they are known before: a tuned one's first trial."""
    trials = {} if experiment.tuning is None else experiment.tuning.trials
    return {
        name: (f"{name}.{next(iter(trials[name]))}", next(iter(trials[name].values())))
        if name in trials
        else (name, method)
        for name, method in experiment.methods.items()
    }


def tuning_work(trainer: Trainer) -> dict[str, Work]:
    """What is left of the trials' trainings."""
    experiment = trainer.experiment
    if experiment.tuning is None:
        return {}
    seed = experiment.seeds[0]
    phases = [
        (f"{name}.{trial}", method)
        for name, trials in experiment.tuning.trials.items()
        for trial, method in trials.items()
        if not trainer.workdir.trial(f"{name}.{trial}", seed).exists()
    ]
    return _trainings(trainer, phases, seed)


def rows_work(
    trainer: Trainer, chosen: Chosen, is_finished: Callable[[str, int], bool]
) -> dict[str, Work]:
    """What is left to be done for the rows of the table, in trainings and evaluations.

    Args:
        trainer: Of the run.
        chosen: What is trained for them.
        is_finished: Whether the record of a row and seed is there.
    """
    experiment, splits = trainer.experiment, trainer.splits.evaluated
    found: dict[str, Work] = {}
    for seed in experiment.seeds:
        rows = (*experiment.methods, *experiment.weight_space)
        new = [name for name in rows if not is_finished(name, seed)]
        phases = [chosen[name] for name in new if name in chosen]
        if phases:
            found |= _trainings(trainer, phases, seed)
        if new and experiment.evaluation.needs_zero_shot():
            labelled = sum(len(splits[split]) for split in experiment.evaluation.labelled())
            found[zero_shot_title(seed)] = Work("image", labelled)
        images = Work("image", sum(map(len, splits.values())))
        found |= {evaluation_title(name, seed): images for name in new}
    return found


def later_work(experiments: Mapping[str, Experiment], path: pathlib.Path) -> dict[str, Work]:
    """What these experiments have to do, as far as their configs tell it; no finished ones.

    Args:
        experiments: By the folder's name, which stands before each title.
        path: Of the folders.
    """
    found = {}
    for name, experiment in experiments.items():
        if (path / name / "results.json").exists():
            continue
        for seed, phase in itertools.product(experiment.seeds, experiment.phases()):
            steps = phase.method.num_steps(experiment.stage(phase.stage).training.num_steps)
            if phase.method.terms:
                found[f"{name}: {training_title(phase.name, seed)}"] = Work("step", steps)
        found |= {
            f"{name}: {evaluation_title(method, seed)}": Work("image", None)
            for seed, method in itertools.product(experiment.seeds, experiment.methods)
        }
    return found


def _trainings(
    trainer: Trainer, phases: Sequence[tuple[str, Method]], seed: int
) -> dict[str, Work]:
    """What is left of the trainings of a seed, pre-training included."""
    first = [phase for phase in trainer.experiment.phases() if phase.stage == PRETRAIN]
    parts = [(PRETRAIN, phase.name, phase.method) for phase in first]
    parts += [(FINETUNE, *part) for name, one in phases for part in one.parts(name)]
    left = {
        training_title(name, seed): _steps_left(trainer, stage, name, method, seed)
        for stage, name, method in parts
        if method.terms and not isinstance(method.optimizer, LogisticRegression)
    }
    return {title: Work("step", steps) for title, steps in left.items() if steps}


def _steps_left(trainer: Trainer, stage_name: str, name: str, method: Method, seed: int) -> int:
    folder = trainer.workdir.checkpoints(name, seed)
    kept = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    steps = method.num_steps(trainer.experiment.stage(stage_name).training.num_steps)
    return max(steps - max(kept, default=0), 0)
