"""The rows of the table: what is finished is read, the rest is trained and tested."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from calib_jax.core.trees import interpolate
from calib_jax.core.types import Params, Predictions
from calib_jax.evaluation.evaluate import evaluate
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.runs.experiment import FINETUNE
from calib_jax.runs.export import Export, Exporter
from calib_jax.runs.features import Features
from calib_jax.runs.splits import Splits
from calib_jax.runs.trainer import Trainer
from calib_jax.runs.workdir import read_json, write_json
from calib_jax.training.loop import Fitted, initial_params
from calib_jax.weight_space.curves import curve
from calib_jax.weight_space.rows import Fit


@dataclasses.dataclass
class Rows:
    """Makes the records of `results.json`, one a row and seed.

    Attributes:
        trainer: Trains what is missing; its workdir keeps the records.
        features: Predicts.
        splits: The opened images.
        exporter: Writes the models.
        chosen: The phase and the method of each row, after the tuning.
    """

    trainer: Trainer
    features: Features
    splits: Splits
    exporter: Exporter
    chosen: dict[str, tuple[str, Method]]

    def __post_init__(self) -> None:
        self.experiment, self.workdir = self.trainer.experiment, self.trainer.workdir
        self._zero_shot: dict[int, dict[str, Predictions]] = {}

    def record(self, name: str, seed: int) -> dict[str, Any]:
        """What `results.json` holds of one row of the table and seed."""
        if name in self.experiment.weight_space:
            return self._combined(name, seed)
        path = self.workdir.evaluation(name, seed)
        phase, method = self.chosen[name]
        export = self.experiment.export
        folders = [self.workdir.model(folder, seed) for folder in export.folders(name, method)]
        if path.exists() and all(folder.exists() for folder in folders):
            return read_json(path)
        fitted = self.trainer.fit(phase, method, seed)
        if not path.exists():
            spent: dict[str, Any] = {
                "num_steps": fitted.num_steps,
                "train_seconds": fitted.train_seconds,
            }
            if fitted.chosen:
                spent["chosen"] = fitted.chosen
            self._write(name, seed, method, fitted.params, spent)
        if folders:
            predictor = self.features.predictor(method)
            for folder, params in zip(folders, _exported(fitted, export), strict=True):
                if not folder.exists():
                    self.exporter.write(folder, params, predictor.head(params))
        return read_json(path)

    def curve(self, name: str) -> dict[str, Any]:
        """What WiSE-FT makes of a trained method on every reported split, for the first seed."""
        seed = self.experiment.seeds[0]
        path = self.workdir.curve(name, seed)
        if not path.exists():
            phase, method = self.chosen[name]
            fitted = self.trainer.fit(phase, method, seed)
            evaluation = self.experiment.evaluation
            reported = (evaluation.id_name, *evaluation.shifts)
            found = curve(
                self.features.predictor(method),
                fitted.start,
                fitted.params,
                {split: self.splits.evaluated[split] for split in reported},
                bar=f"curve {name}",
            )
            write_json(path, found)
        return read_json(path)

    def _combined(self, name: str, seed: int) -> dict[str, Any]:
        path = self.workdir.evaluation(name, seed)
        if not path.exists():
            combination, seeds = self.experiment.weight_space[name], self.experiment.seeds
            phase, method = self.chosen[combination.of]
            first = seeds.index(seed)
            members = [seeds[(first + k) % len(seeds)] for k in range(combination.num_models)]
            fits = [self.trainer.fit(phase, method, member) for member in members]
            began = time.monotonic()
            found = combination(
                fits[0].start,
                [Fit(fitted.params, fitted.teacher) for fitted in fits],
                self.features.held_out(method),
            )
            spent = {
                "num_steps": 0,
                "train_seconds": time.monotonic() - began,
                "combination": {"of": combination.of, "seeds": members, **found.chosen},
            }
            self._write(name, seed, method, found.params, spent)
        return read_json(path)

    def _write(
        self, name: str, seed: int, method: Method, params: Params, spent: dict[str, Any]
    ) -> None:
        evaluation = self.experiment.evaluation
        found = evaluate(
            self.features.predictor(method),
            params,
            self.splits.evaluated,
            evaluation,
            self.experiment.finetune.class_names,
            zero_shot=self._of_pretrained(seed) if evaluation.needs_zero_shot() else None,
            bar=f"evaluate {name}",
        )
        record = {"method": name, "seed": seed, **spent, **found}
        write_json(self.workdir.evaluation(name, seed), record)

    def _of_pretrained(self, seed: int) -> dict[str, Predictions]:
        """What the pre-trained model says of the labelled splits; kept for the seed's next row."""
        if seed not in self._zero_shot:
            texts, method = self.trainer.texts, zero_shot()
            tables = texts.tables[FINETUNE]
            encoder_params = self.trainer.pretrained(seed)
            params = initial_params(method, texts.encoder, encoder_params, tables, seed)
            splits = {
                name: self.splits.evaluated[name] for name in self.experiment.evaluation.labelled()
            }
            predictor = self.features.predictor(method)
            self._zero_shot = {seed: predictor(params, splits, bar="zero-shot")}
        return self._zero_shot[seed]


def _exported(fitted: Fitted, export: Export) -> Iterator[Params]:
    """The models of `export.folders`, one at a time: each may be large."""
    if export.models:
        yield fitted.params
    if export.teacher and fitted.teacher is not None:
        yield fitted.teacher
    for share in export.wise_ft:
        yield interpolate(fitted.start, fitted.params, share)
