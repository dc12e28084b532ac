"""The rows of the table: what is finished is read, the rest is trained and tested."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from calib_jax.core import progress
from calib_jax.core.settings import differences
from calib_jax.core.types import Params, Predictions
from calib_jax.evaluation.detection import Scored
from calib_jax.evaluation.evaluate import evaluate, score_splits, with_scores
from calib_jax.evaluation.store import Store
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.runs.experiment import FINETUNE
from calib_jax.runs.identity import Identity
from calib_jax.runs.plan import evaluation_title, zero_shot_title
from calib_jax.runs.trainer import Trainer
from calib_jax.runs.workdir import read_json, write_json
from calib_jax.training.loop import Fitted
from calib_jax.training.start import initial_params
from calib_jax.weight_space.averages import ALPHAS
from calib_jax.weight_space.curves import curve
from calib_jax.weight_space.rows import Combination, Fit, watched


class _Made(NamedTuple):
    """A row's model: its parameters, what they took, and the training, where there was one."""

    method: Method
    params: Params
    spent: dict[str, Any]
    fitted: Fitted | None


@dataclasses.dataclass
class Rows:
    """Makes the records of `results.json`, one a row and seed.

    Attributes:
        trainer: Trains what is missing; its workdir keeps the records.
        chosen: The phase and the method of each row, after the tuning.
        has_new: Whether a record was made that was not there.
    """

    trainer: Trainer
    chosen: dict[str, tuple[str, Method]]

    def __post_init__(self) -> None:
        self.experiment, self.workdir = self.trainer.experiment, self.trainer.workdir
        self.features, self.splits = self.trainer.features, self.trainer.splits
        self.has_new = False
        self._zero_shot: dict[int, dict[str, Predictions]] = {}

    def changes(self, names: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """What has changed since the kept records of these rows: `field: old -> new`."""
        changes: dict[str, None] = {}
        for name, seed in itertools.product(names, seeds):
            kept = self._kept(self.workdir.evaluation(name, seed))
            if kept is not None:
                changes |= dict.fromkeys(differences(kept["identity"], self._identity(name, seed)))
        return list(changes)

    def record(self, name: str, seed: int) -> dict[str, Any]:
        """What `results.json` holds of one row of the table and seed."""
        make = functools.cache(functools.partial(self._make, name, seed))
        path, identity = self.workdir.evaluation(name, seed), self._identity(name, seed)
        kept = self._kept(path)
        scores, table_score = self.trainer.identities.scores(), self.experiment.evaluation.score
        shown = {"scores": json.loads(json.dumps(scores)), "table_score": table_score}
        if kept is None or kept["identity"] != identity:
            is_same_model = kept is not None and kept["identity"]["model"] == identity["model"]
            spent = _spent(kept["record"]) if kept is not None and is_same_model else make().spent
            found = self._evaluate(name, seed, identity["model"], make)
            record = {"method": name, "seed": seed, **spent, **found}
            self._keep(path, identity, record, **shown)
        elif shown != {key: kept[key] for key in shown}:
            same = [k for k, v in shown["scores"].items() if kept["scores"].get(k) == v]
            predictions, store = self._predictions(name, seed, identity["model"], make)
            scored = self._scored(predictions, store, make)
            evaluation = self.experiment.evaluation
            record = with_scores(kept["record"], scored, evaluation, same=same)
            self._keep(path, identity, record, **shown)
        else:
            record = kept["record"]
        folders = self._folders(name, seed)
        if not all(folder.exists() for folder in folders) and (fitted := make().fitted):
            head = self.features.predictor(make().method).head
            self.trainer.exporter.write_all(folders, fitted, self.experiment.export, head)
        progress.board().drop(evaluation_title(name, seed))
        return record

    def is_finished(self, name: str, seed: int) -> bool:
        """Whether the record of a row and seed is there, and of this config."""
        kept = self._kept(self.workdir.evaluation(name, seed))
        return kept is not None and kept["identity"] == self._identity(name, seed)

    def curve(self, name: str) -> dict[str, Any]:
        """What WiSE-FT makes of a trained method on every reported split, for the first seed."""
        seed = self.experiment.seeds[0]
        path, identity = self.workdir.curve(name, seed), self._identity(name, seed)
        found = self._of_identity(path, identity)
        if found is None:
            phase, method = self.chosen[name]
            fitted = self.trainer.fit(phase, method, seed)
            evaluation = self.experiment.evaluation
            reported = (evaluation.id_name, *evaluation.shifts)
            predictor = self.features.predictor(method)

            def predict(*arguments: Any, bar: None) -> Mapping[str, Predictions]:
                predictions = predictor(*arguments, bar=bar)
                stage.advance()
                return predictions

            stage = progress.board().stage(f"curve {name}", total=len(ALPHAS), unit="model")
            with stage:
                splits = {split: self.splits.evaluated[split] for split in reported}
                found = curve(predict, fitted.start, fitted.params, splits)
            self._keep(path, identity, found)
        return found

    def _make(self, name: str, seed: int) -> _Made:
        """A row's model, trained or read from its last checkpoint."""
        combination = self.experiment.weight_space.get(name)
        if combination is None:
            phase, method = self.chosen[name]
            fitted = self.trainer.fit(phase, method, seed)
            counted = {"num_steps": fitted.num_steps, "train_seconds": fitted.train_seconds}
            chosen = {"chosen": fitted.chosen} if fitted.chosen else {}
            return _Made(method, fitted.params, counted | chosen, fitted)
        phase, method = self.chosen[combination.of]
        members = self._members(combination, seed)
        fits = [self.trainer.fit(phase, method, member) for member in members]
        began = time.monotonic()
        with progress.board().stage(
            f"{name}, seed {seed}", total=None, unit="model", is_minor=True
        ) as stage:
            found = combination(
                fits[0].start,
                [Fit(fitted.params, fitted.teacher) for fitted in fits],
                watched(self.features.held_out(method), stage),
            )
        spent = {
            "num_steps": 0,
            "train_seconds": time.monotonic() - began,
            "combination": {"of": combination.of, "seeds": members, **found.chosen},
        }
        return _Made(method, found.params, spent, None)

    def _evaluate(
        self, name: str, seed: int, model: Identity, make: Callable[[], _Made]
    ) -> dict[str, Any]:
        """The numbers of a row's model."""
        evaluation = self.experiment.evaluation
        predictions, store = self._predictions(name, seed, model, make)
        return evaluate(
            predictions,
            self.splits.evaluated,
            evaluation,
            self.experiment.finetune.class_names,
            zero_shot=self._of_pretrained(seed) if evaluation.needs_zero_shot() else None,
            scored=self._scored(predictions, store, make),
        )

    def _predictions(
        self, name: str, seed: int, model: Identity, make: Callable[[], _Made]
    ) -> tuple[dict[str, Predictions], Store | None]:
        """What a row's model says of every split, and where that is kept; what is there is read."""
        splits, store = self.splits.evaluated, None
        predictions: dict[str, Predictions] = {}
        if self.experiment.evaluation.keep_predictions:
            folder = self.workdir.predictions(name, seed)
            store = Store(folder, self.trainer.identities.predictions(model))
            found = {split: store.read(split) for split in splits}
            predictions = {split: one for split, one in found.items() if one is not None}
        missing = {split: images for split, images in splits.items() if split not in predictions}
        if missing:
            made = make()
            predictor = self.features.predictor(made.method)
            bar = evaluation_title(name, seed)
            predictions |= predictor(made.params, missing, store=store, bar=bar)
        return predictions, store

    def _scored(
        self,
        predictions: Mapping[str, Predictions],
        store: Store | None,
        make: Callable[[], _Made],
    ) -> Scored:
        """Every score of the ID split and the OOD sets; those that are kept are read."""
        evaluation, identities = self.experiment.evaluation, self.trainer.identities.scores()
        names = (evaluation.id_name, *evaluation.unknown())
        known: dict[str, dict[str, np.ndarray]] = {split: {} for split in names}
        for split, (score, identity) in itertools.product(names, identities.items()):
            values = None if store is None else store.read_score(split, score, identity)
            if values is not None:
                known[split][score] = values
        reference = None
        if any(evaluation.scores[k].fit_needs for k in identities if k not in known[names[0]]):
            reference = self.features.reference(make().method, make().params)
        scored = score_splits(predictions, evaluation, reference=reference, known=known)
        for split, of_split in scored.items():
            for score, values in of_split.items():
                if store is not None and score not in known[split]:
                    store.write_score(split, score, identities[score], values)
        return scored

    def _folders(self, name: str, seed: int) -> list[pathlib.Path]:
        """Where a row's models are exported."""
        if name not in self.chosen:
            return []
        folders = self.experiment.export.folders(name, self.chosen[name][1])
        return [self.workdir.model(folder, seed) for folder in folders]

    def _members(self, combination: Combination, seed: int) -> list[int]:
        """The seeds whose models a combination mixes."""
        seeds = self.experiment.seeds
        first = seeds.index(seed)
        return [seeds[(first + k) % len(seeds)] for k in range(combination.num_models)]

    def _identity(self, name: str, seed: int) -> Identity:
        """What a row's record depends on."""
        identities, combination = self.trainer.identities, self.experiment.weight_space.get(name)
        if combination is None:
            model = identities.training(self.chosen[name][0]) | {"seed": seed}
        else:
            members = self._members(combination, seed)
            model = identities.training(self.chosen[combination.of][0])
            model |= {f"weight_space.{name}": identities.combination(combination, members)}
        return json.loads(json.dumps(identities.evaluation(model)))

    def _of_identity(self, path: pathlib.Path, identity: Identity) -> dict[str, Any] | None:
        """The record of a file, if it depends on the same; else, or without one, None."""
        kept = self._kept(path)
        return kept["record"] if kept is not None and kept["identity"] == identity else None

    def _kept(self, path: pathlib.Path) -> dict[str, Any] | None:
        return read_json(path) if path.exists() else None

    def _keep(
        self, path: pathlib.Path, identity: Identity, record: dict[str, Any], **further: Any
    ) -> None:
        self.workdir.archive([path])
        write_json(path, {"identity": identity, **further, "record": record})
        self.has_new = True

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
            self._zero_shot = {seed: predictor(params, splits, bar=zero_shot_title(seed))}
        return self._zero_shot[seed]


def _spent(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of how its model was made."""
    keys = ("num_steps", "train_seconds", "chosen", "combination")
    return {key: record[key] for key in keys if key in record}
