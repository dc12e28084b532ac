"""Hyper-parameters chosen on the validation split, before the rest of a run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from calib_jax.core.errors import TrainingError
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.evaluation.labelled import check_defined
from calib_jax.evaluation.posthoc import VALIDATION
from calib_jax.methods.method import Method
from calib_jax.optim.logistic import LogisticRegression
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.features import Features
from calib_jax.runs.trainer import Trainer
from calib_jax.runs.workdir import read_json, write_json


def check_judges(experiment: Experiment, splits: Mapping[str, ImageSplit]) -> None:
    """Raises a ConfigError for what chooses by a number that the validation split has none of.

    Args:
        experiment: With its tuning, its linear probes and its weight space.
        splits: The evaluated ones, opened.
    """
    for name, row in experiment.weight_space.items():
        row.check_held_out(f"weight_space.{name}", splits)
    chosen = {}
    if experiment.tuning is not None:
        chosen["tuning.metric"] = (experiment.tuning.metric, "Set ece_15, or another split.")
    for phase in experiment.phases():
        if phase.method.terms and isinstance(phase.method.optimizer, LogisticRegression):
            chosen[f"{phase.where}.optimizer"] = ("nll", "Choose another split.")
    for where, (metric, fix) in chosen.items():
        check_defined(metric, splits[VALIDATION], where=where, fix=fix)


def choose(
    trainer: Trainer, features: Features
) -> tuple[dict[str, tuple[str, Method]], dict[str, Any]]:
    """For every method its phase and what is trained there, and the record of the tuning.

    A method without trials is its own phase. The chosen trial's phase goes on to be the method's,
    so that its first seed is not trained twice. What is finished is kept; the checkpoints of the
    trials that lost are not. A trial whose training breaks down has lost.

    Args:
        trainer: Trains; its experiment has the trials, its workdir keeps one file for each.
        features: Predicts.
    """
    experiment, workdir = trainer.experiment, trainer.workdir
    chosen = {name: (name, method) for name, method in experiment.methods.items()}
    record: dict[str, Any] = {}
    if experiment.tuning is None:
        return chosen, record
    metric, seed = experiment.tuning.metric, experiment.seeds[0]
    trainer.pretrained(seed)  # or its failure would be taken for a trial's
    for name, trials in experiment.tuning.trials.items():
        scores = {
            trial: _score(trainer, features, phase=f"{name}.{trial}", method=method, seed=seed)
            for trial, method in trials.items()
        }
        best = min(scores, key=lambda trial: scores[trial][metric])
        if not math.isfinite(scores[best][metric]):
            raise TrainingError(
                f"tuning.trials.{name}: every trial broke down. Lower the learning rates."
            )
        chosen[name] = (f"{name}.{best}", trials[best])
        for trial, method in trials.items():
            for phase, _ in method.parts(f"{name}.{trial}") if trial != best else ():
                shutil.rmtree(workdir.checkpoints(phase, seed), ignore_errors=True)
        values = {trial: score[metric] for trial, score in scores.items()}
        record[name] = {
            "chosen": best,
            "metric": metric,
            "trials": [
                {"name": trial, "score": value if math.isfinite(value) else None}
                for trial, value in values.items()
            ],
        }
    return chosen, record


def described(record: Mapping[str, Any]) -> str:
    """What was chosen where, for the report; empty where nothing was tuned.

    Args:
        record: Of `choose`.
    """
    metrics = sorted({one["metric"] for one in record.values()})
    return f"the validation split ({', '.join(record)}, by {', '.join(metrics)})" * bool(record)


def _score(
    trainer: Trainer, features: Features, *, phase: str, method: Method, seed: int
) -> dict[str, float]:
    """The metrics of a trial on the validation split; infinite where its training broke down."""
    path = trainer.workdir.trial(phase, seed)
    if not path.exists():
        try:
            params = trainer.fit(phase, method, seed).params
        except TrainingError as error:
            write_json(path, {"error": str(error)})
        else:
            predictions = features.validation(method, params)
            if np.isfinite(predictions.logits).all():
                write_json(path, features.judged(predictions).metrics())
            else:  # finite weights, but an overflow on the way to the logits
                write_json(path, {"error": "the logits of the validation split are not finite"})
    metrics = read_json(path)
    return dict.fromkeys(("nll", "brier", "ece_15"), math.inf) | {
        key: value for key, value in metrics.items() if key != "error" and value is not None
    }
