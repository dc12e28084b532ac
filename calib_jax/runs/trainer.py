"""The trainings of an experiment: pre-training, and each method with what is trained before it."""

from __future__ import annotations

import dataclasses
import time
from typing import cast

import jax
from jax.sharding import Mesh

from calib_jax.core import rngs, settings
from calib_jax.core.types import Params
from calib_jax.data.images import Resize
from calib_jax.data.pipeline import training_batches
from calib_jax.methods.method import Method
from calib_jax.optim.logistic import LogisticRegression, choose_logistic
from calib_jax.runs.experiment import FINETUNE, PRETRAIN, Experiment
from calib_jax.runs.export import Exporter
from calib_jax.runs.features import Features, unit
from calib_jax.runs.identity import Identities
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import Texts
from calib_jax.runs.workdir import Workdir, write_json
from calib_jax.training.history import History
from calib_jax.training.logbook import Logbook
from calib_jax.training.loop import BatchIterator, Fitted, fit
from calib_jax.training.start import initial_params

# Of a program that runs once, on a CPU: its threefry rounds take longer to optimise than to run.
_COMPILED_FAST = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}


@dataclasses.dataclass
class Trainer:
    """Trains any method for any seed, and goes on from the newest checkpoint of each.

    Attributes:
        experiment: The config.
        texts: The towers and the tokenised texts.
        splits: The opened images.
        features: What frozen encoders make of them.
        exporter: Writes the pre-trained model.
        identities: What each training depends on.
        workdir: Keeps the checkpoints and the history.
        mesh: All devices.
    """

    experiment: Experiment
    texts: Texts
    splits: Splits
    features: Features
    exporter: Exporter
    identities: Identities
    workdir: Workdir
    mesh: Mesh

    def __post_init__(self) -> None:
        self.history = History(self.workdir.metrics)
        self._pretrained: dict[int, Params] = {}

    def pretrained(self, seed: int) -> Params:
        """The encoder's parameters that every method of a seed starts from."""
        if self.texts.pretrained is not None:
            return self.texts.pretrained
        if seed not in self._pretrained:
            phase = self.experiment.phases()[0]
            options = _COMPILED_FAST if jax.default_backend() == "cpu" else None
            init = jax.jit(self.texts.encoder.init, compiler_options=options)
            start = init(rngs.key(seed, 0, "encoder"))
            fitted = self._fit(PRETRAIN, phase.name, phase.method, start, seed)
            self.exporter.write_encoder(self.workdir.pretrained(seed), fitted.params["encoder"])
            self._pretrained = {seed: fitted.params["encoder"]}
        return self._pretrained[seed]

    def fit(self, name: str, method: Method, seed: int) -> Fitted:
        """A method, fine-tuned from the pre-trained model of the seed.

        Args:
            name: The phase's: of its checkpoints and its history.
            method: What is trained; its warm start and its teacher before it.
            seed: Of the run.
        """
        return self._fit(FINETUNE, name, method, self.pretrained(seed), seed)

    def _fit(
        self, stage_name: str, name: str, method: Method, encoder_params: Params, seed: int
    ) -> Fitted:
        before = {
            part: self._fit(stage_name, f"{name}.{part}", other, encoder_params, seed).params
            for part, other in (("warm_start", method.warm_start), ("taught_by", method.taught_by))
            if other is not None
        }
        if method.terms:
            write_json(self.workdir.training(name, seed), self.identities.training(name))
        tables, encoder = self.texts.tables[stage_name], self.texts.encoder
        first = initial_params(method, encoder, encoder_params, tables, seed)
        start = before.get("warm_start", first)
        if isinstance(method.optimizer, LogisticRegression):
            fitted = self._fit_logistic(stage_name, method, method.optimizer, start)
            return dataclasses.replace(fitted, start=first)
        stage = self.experiment.stage(stage_name)
        training = dataclasses.replace(
            stage.training, num_steps=method.num_steps(stage.training.num_steps)
        )
        fitted = fit(
            method,
            encoder,
            start,
            tables,
            training=training,
            mesh=self.mesh,
            logbook=Logbook(
                name=name,
                seed=seed,
                directory=self.workdir.checkpoints(name, seed),
                config=settings.to_dict(self.experiment),
                history=self.history,
            ),
            make_batches=lambda: self._batches(stage_name, method, start, seed),
            probe=self.features.probe(method),
            origin=before.get("taught_by"),
        )
        return dataclasses.replace(fitted, start=first)

    def _fit_logistic(
        self, stage_name: str, method: Method, optimizer: LogisticRegression, start: Params
    ) -> Fitted:
        began = time.monotonic()
        held_out = self.features.validation(method, start)
        judged = self.features.judged(held_out)
        features, labels = self.features.of_training(stage_name, method, start)
        best, candidates = choose_logistic(
            optimizer,
            (unit(features), labels),
            (unit(held_out.features), held_out.labels),
            num_classes=len(self.experiment.finetune.class_names),
            outcomes=lambda logits: dataclasses.replace(judged, scores=logits).outcomes(),
        )
        classifier = {"kernel": best.fit.kernel, "bias": best.fit.bias}
        return Fitted(
            start=start,
            params={**start, "classifier": classifier},
            teacher=None,
            num_steps=best.fit.num_iterations,
            train_seconds=time.monotonic() - began,
            chosen={
                "l2": best.fit.l2,
                "converged": best.fit.converged,
                "nll": {f"{other.fit.l2:g}": other.validation_nll for other in candidates},
            },
        )

    def _batches(self, stage_name: str, method: Method, start: Params, seed: int) -> BatchIterator:
        stage = self.experiment.stage(stage_name)
        batch_size = stage.training.batch_size
        if method.cached_features:
            return self.features.batches(
                stage_name, method, start, batch_size=batch_size, seed=seed
            )
        return training_batches(
            self.splits.trained[stage_name],
            batch_size=batch_size,
            image_size=self.texts.encoder.config.vision.image_size,
            augmentation=stage.augmentation,
            resize=cast(Resize, self.experiment.resize),
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
