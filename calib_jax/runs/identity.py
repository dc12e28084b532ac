"""What a training and an evaluation depend on: two that agree in all of it give the same numbers.

Identities are JSON values under the names that the config has for them, so that what differs can
be said in the words of the config.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from calib_jax.classifiers.head import FileClassifier
from calib_jax.core import settings
from calib_jax.data.fingerprints import fingerprint
from calib_jax.evaluation.posthoc import VALIDATION
from calib_jax.optim.logistic import LogisticRegression
from calib_jax.runs.experiment import FINETUNE, PRETRAIN, Experiment, Phase
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import Texts
from calib_jax.weight_space.rows import Combination

Identity = dict[str, Any]

OF_NO_NUMBER = ("batch_size", "scores", "score", "keep_predictions")
"""Fields of an evaluation that are no part of its identity; `scores` are told apart one by one."""


@dataclasses.dataclass(frozen=True)
class Identities:
    """The identities of everything that a run makes.

    Attributes:
        experiment: The config, after its class names are known.
        texts: The towers, the tokenised texts, the weights that the config names.
        splits: The opened data.
    """

    experiment: Experiment
    texts: Texts
    splits: Splits

    def trainings(self) -> dict[str, Identity]:
        """What each training depends on besides its seed, by the name of its phase."""
        return {phase.name: self.training(phase.name) for phase in self.experiment.phases()}

    def training(self, name: str) -> Identity:
        """What a training depends on besides its seed.

        The steps between two rows of the history or two checkpoints are no part of it, nor is the
        number of devices.

        Args:
            name: Of its phase.
        """
        phases = {phase.name: phase for phase in self.experiment.phases()}
        phase = phases[name]
        before = [phases[PRETRAIN]] if PRETRAIN in phases and name != PRETRAIN else []
        identity = self._shared(phase)
        for one in (*before, phase):
            identity |= self._stage(one)
        if phase.where.startswith("tuning.trials.") or _chooses(phase):
            identity["evaluation"] |= {"validation": self._split(VALIDATION)}
        return identity

    def combination(self, combination: Combination, members: Sequence[int]) -> Identity:
        """What a row of the weight space depends on.

        Args:
            combination: Of the models of its method.
            members: The seeds of these models.
        """
        return {
            "weight_space": settings.to_dict(combination),
            "seeds": list(members),
            "validation": self._split(VALIDATION),
        }

    def evaluation(self, model: Identity) -> Identity:
        """What the record of a model depends on, but for its scores.

        Args:
            model: What the model depends on, seed included.
        """
        evaluation = self.experiment.evaluation
        fields = settings.to_dict(evaluation)
        kept = {key: value for key, value in fields.items() if key not in OF_NO_NUMBER}
        names = (*evaluation.labelled(), *evaluation.unknown())
        data = {name: self.splits.evaluated[name].fingerprint for name in names}
        return {"model": model, "evaluation": kept, "data": data}

    def scores(self) -> dict[str, Identity]:
        """What each OOD score depends on besides the model, by its name."""
        return {k: settings.to_dict(v) for k, v in self.experiment.evaluation.scores.items()}

    def predictions(self, model: Identity) -> dict[str, Identity]:
        """What a model's predictions of each split depend on.

        Args:
            model: As in `evaluation`.
        """
        digest = _digest(model)
        return {
            name: {"model": digest, "split": self._split(name)} for name in self.splits.evaluated
        }

    def _shared(self, phase: Phase) -> Identity:
        """What every training depends on."""
        tables = self.texts.tables[phase.stage]
        shared = {
            "model": settings.to_dict(self.texts.encoder.config),
            "compute": settings.to_dict(self.experiment.compute),
            "resize": self.experiment.resize,
            "evaluation": {"templates": list(self.experiment.evaluation.templates)},
            "tokens_crc32": _crc32((tables.captions, tables.class_tokens)),
        }
        if self.texts.pretrained is not None:
            shared["pretrained_weights_crc32"] = self.pretrained_crc32
        return shared

    @functools.cached_property
    def pretrained_crc32(self) -> int | None:
        """A checksum of the weights that the config names: a path alone does not tell the model."""
        return None if self.texts.pretrained is None else _crc32(self.texts.pretrained)

    def _stage(self, phase: Phase) -> Identity:
        """What a phase adds: its method, and what it is trained on, if it is."""
        found: Identity = {phase.where: settings.to_dict(phase.method)}
        for name, method in phase.method.parts(phase.where):
            if isinstance(method.classifier, FileClassifier):
                # What is missing is named where it is read.
                files = [path for path in method.classifier.files() if path.is_file()]
                found[f"{name}.classifier.files_crc32"] = fingerprint(files)
        if phase.method.terms:
            stage = self.experiment.stage(phase.stage)
            images = self.splits.trained[phase.stage]
            found[phase.stage] = {
                "sources": settings.to_dict(stage.sources),
                "class_names": list(stage.class_names),
                "augmentation": settings.to_dict(stage.augmentation),
                "training": {
                    "num_steps": stage.training.num_steps,
                    "batch_size": stage.training.batch_size,
                },
                "data": [split.fingerprint for split in images.splits],
            }
        elif phase.stage == FINETUNE:
            found[FINETUNE] = {"class_names": list(self.experiment.finetune.class_names)}
        return found

    def _split(self, name: str) -> Identity:
        evaluation = self.experiment.evaluation
        split = {**evaluation.labelled(), **evaluation.unknown()}[name]
        return {
            **settings.to_dict(split),
            "fingerprint": self.splits.evaluated[name].fingerprint,
        }


def _chooses(phase: Phase) -> bool:
    """Whether the training itself chooses something on the validation split."""
    parts = [method for _, method in phase.method.parts(phase.name)]
    return any(isinstance(method.optimizer, LogisticRegression) for method in parts)


def _digest(identity: Identity) -> str:
    text = json.dumps(identity, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _crc32(tree: Any) -> int:
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).data, checksum)
    return checksum
