"""An experiment made ready: its data opened and checked, its models trained, tested, exported."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from calib_jax.classifiers.stored import CLASSIFIER_FILE, write_head
from calib_jax.core import rngs, settings
from calib_jax.core.errors import ConfigError, ExportError
from calib_jax.core.linalg import normalize
from calib_jax.core.types import Params, Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.features import feature_batches
from calib_jax.data.images import Resize
from calib_jax.data.pipeline import CaptionedImages, training_batches
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.evaluate import VALIDATION
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.split_metrics import classification_metrics
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.models.weights.export import write_model
from calib_jax.optim.logistic import LogisticRegression, choose_logistic
from calib_jax.runs.experiment import FINETUNE, PRETRAIN, Experiment
from calib_jax.runs.texts import Texts
from calib_jax.runs.workdir import Workdir
from calib_jax.training.history import History
from calib_jax.training.loop import BatchIterator, Fitted, Logbook, fit, initial_params
from calib_jax.weight_space.rows import HeldOut, held_out

_PROBE_SIZE = 512


class Assembly:
    """An experiment with its data opened, ready to train any method for any seed."""

    def __init__(self, experiment: Experiment, texts: Texts, workdir: Workdir, mesh: Mesh):
        """Opens all data sets and reads the first image of each.

        Raises:
            ConfigError: A data set or a class name does not fit, or there are fewer images than
                one batch needs.
            DataError: An image cannot be read.
        """
        self._experiment = experiment
        self._texts = texts
        self._workdir = workdir
        self._mesh = mesh
        self._opened: dict[tuple[Any, ...], ImageSplit] = {}
        self._initial: dict[int, Params] = {}
        self._zero_shot: dict[int, dict[str, Predictions]] = {}
        self._features: dict[tuple[str, int], tuple[Params, np.ndarray, np.ndarray]] = {}
        self.history = History(workdir.metrics)
        evaluation = experiment.evaluation
        class_names = experiment.finetune.class_names
        self.splits = {
            **{k: self._open(v, class_names) for k, v in evaluation.labelled().items()},
            **{k: self._open_unknown(v, class_names) for k, v in evaluation.unknown().items()},
        }
        absent = self.splits[evaluation.id_name].absent
        if absent:
            raise ConfigError(
                f"finetune.class_names: {len(absent)} of the {len(class_names)} are no class of "
                f"{self.splits[evaluation.id_name].description}, first {absent[0]!r}. Remove them, "
                "or choose another id_split."
            )
        self._images: dict[str, CaptionedImages] = {}
        for phase in experiment.phases():
            if phase.method.terms and phase.stage not in self._images:
                self._images[phase.stage] = self._captioned(phase.stage)

    def _captioned(self, stage_name: str) -> CaptionedImages:
        stage = self._experiment.stage(stage_name)
        splits = [self._open(source.split, stage.class_names) for source in stage.sources]
        images = CaptionedImages(stage.sources, splits, stage.captions())
        if len(images) < stage.training.batch_size:
            raise ConfigError(
                f"{stage_name}.training.batch_size: got {stage.training.batch_size}, expected at "
                f"most the {len(images)} training images. Lower it."
            )
        return images

    def pretrained(self, seed: int) -> Params:
        """The encoder's parameters that every method of a seed starts from."""
        if self._texts.pretrained is not None:
            return self._texts.pretrained
        if seed not in self._initial:
            self._initial = {seed: self._pretrain(seed)}
        return self._initial[seed]

    def _pretrain(self, seed: int) -> Params:
        phase = self._experiment.phases()[0]
        start = jax.jit(self._texts.encoder.init)(rngs.key(seed, 0, "encoder"))
        params = self._fit(PRETRAIN, phase.name, phase.method, start, seed).params["encoder"]
        self._write_model(self._workdir.pretrained(seed), params)
        return params

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
        tables, encoder = self._texts.tables[stage_name], self._texts.encoder
        first = initial_params(method, encoder, encoder_params, tables, seed)
        start = before.get("warm_start", first)
        if isinstance(method.optimizer, LogisticRegression):
            fitted = self._fit_logistic(stage_name, method, method.optimizer, start)
            return dataclasses.replace(fitted, start=first)
        stage = self._experiment.stage(stage_name)
        training = dataclasses.replace(
            stage.training, num_steps=method.num_steps(stage.training.num_steps)
        )
        fitted = fit(
            method,
            encoder,
            start,
            tables,
            training=training,
            mesh=self._mesh,
            logbook=Logbook(
                name=name,
                seed=seed,
                directory=self._workdir.checkpoints(name, seed),
                config=settings.to_dict(self._experiment),
                history=self.history,
            ),
            make_batches=lambda: self._training_batches(stage_name, method, start, seed),
            probe=self._probe(method),
            origin=before.get("taught_by"),
        )
        return dataclasses.replace(fitted, start=first)

    def _probe(self, method: Method) -> Callable[[Params], dict[str, float]]:
        """What the history tells of parameters besides the loss."""
        predictor = self.predictor(method)
        validation = {name: self.splits[name] for name in (VALIDATION,) if name in self.splits}

        def probe(params: Params) -> dict[str, float]:
            predictions = predictor(params, validation, limit=_PROBE_SIZE)[VALIDATION]
            kernel = self._texts.encoder.image_projection(params["encoder"])
            projection = np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)
            metrics = classification_metrics(predictions)
            return {
                "smallest_singular_value": spectrum(predictions.features)[-1],
                "projection_smallest_singular_value": projection[-1],
                "validation_accuracy": metrics["accuracy"],
                "validation_nll": metrics["nll"],
            }

        return probe

    def _fit_logistic(
        self, stage_name: str, method: Method, optimizer: LogisticRegression, start: Params
    ) -> Fitted:
        began = time.monotonic()
        held_out = self.predictor(method)(start, {VALIDATION: self.splits[VALIDATION]})[VALIDATION]
        features, labels = self._training_features(stage_name, method, start)
        best, candidates = choose_logistic(
            optimizer,
            (_unit(features), labels),
            (_unit(held_out.features), held_out.labels),
            num_classes=len(self._experiment.finetune.class_names),
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

    def _training_features(
        self, stage_name: str, method: Method, params: Params
    ) -> tuple[np.ndarray, np.ndarray]:
        """The image features of every training image, and the labels; kept for the next head."""
        # The tree itself is kept too, so that its id is not another's.
        key = (stage_name, id(params["encoder"]))
        if key not in self._features:
            stage = self._experiment.stage(stage_name)
            splits = {
                str(number): self._open(source.split, stage.class_names)
                for number, source in enumerate(stage.sources)
            }
            found = self.predictor(method)(params, splits, bar="features")
            parts = [
                (found[str(number)], source.repeats) for number, source in enumerate(stage.sources)
            ]
            features = np.concatenate([np.tile(p.features, (k, 1)) for p, k in parts])
            labels = np.concatenate([np.tile(p.labels, k) for p, k in parts])
            self._features = {key: (params["encoder"], features, labels)}
        return self._features[key][1:]

    def _training_batches(
        self, stage_name: str, method: Method, start: Params, seed: int
    ) -> BatchIterator:
        stage = self._experiment.stage(stage_name)
        if method.cached_features:
            features, labels = self._training_features(stage_name, method, start)
            return feature_batches(
                features,
                labels,
                batch_size=stage.training.batch_size,
                seed=seed,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            )
        return training_batches(
            self._images[stage_name],
            batch_size=stage.training.batch_size,
            image_size=self._texts.encoder.config.vision.image_size,
            augmentation=stage.augmentation,
            resize=cast(Resize, self._experiment.resize),
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def held_out(self, method: Method) -> HeldOut:
        """The validation split, as a combination of a method's models looks at it."""
        return held_out(
            self._texts.encoder,
            method.classifier,
            self._texts.tables[FINETUNE],
            self.splits[VALIDATION],
            predictor=self.predictor(method),
            mesh=self._mesh,
        )

    def zero_shot(self, seed: int) -> dict[str, Predictions]:
        """What the pre-trained model says of the labelled splits; kept for the seed's next row."""
        if seed not in self._zero_shot:
            method, tables = zero_shot(), self._texts.tables[FINETUNE]
            encoder_params = self.pretrained(seed)
            params = initial_params(method, self._texts.encoder, encoder_params, tables, seed)
            names = self._experiment.evaluation.labelled()
            splits = {name: self.splits[name] for name in names}
            self._zero_shot = {seed: self.predictor(method)(params, splits, bar="zero-shot")}
        return self._zero_shot[seed]

    def export(self, folder: pathlib.Path, method: Method, params: Params) -> None:
        """Writes a model for other tools: Hugging Face files, and the classifier beside them.

        Args:
            folder: Is complete as soon as it is there.
            method: Makes the head.
            params: `{"encoder": ..., "classifier": ...}`.

        Raises:
            ExportError: It cannot be written.
        """
        head = self.predictor(method).head(params)
        partial = folder.with_name(f"{folder.name}.partial")
        try:
            if partial.exists():
                shutil.rmtree(partial)
            self._write_model(partial, params["encoder"])
            write_head(partial / CLASSIFIER_FILE, head, self._experiment.finetune.class_names)
            partial.replace(folder)
        except OSError as error:
            raise ExportError(
                f"export: {folder} cannot be written ({error.strerror or error}). Make room for "
                "it; the same command goes on from here and trains nothing again."
            ) from error

    def _write_model(self, folder: pathlib.Path, params: Params) -> None:
        tokenizer = self._texts.tokenizer
        folder.mkdir(parents=True, exist_ok=True)
        write_model(
            folder,
            self._texts.encoder.config,
            params,
            bos=tokenizer.bos,
            eot=tokenizer.eot,
            pad=tokenizer.pad,
        )
        tokenizer.save(folder, context_length=self._texts.encoder.config.text.context_length)

    def predictor(self, method: Method) -> Predictor:
        """What predicts splits with a method's classifier."""
        return Predictor(
            self._texts.encoder,
            method.classifier,
            self._texts.tables[FINETUNE],
            mesh=self._mesh,
            batch_size=self._experiment.evaluation.batch_size,
            cache=pathlib.Path(self._experiment.cache_dir).expanduser() / "heads",
        )

    def _open_unknown(self, split: Split, known: tuple[str, ...]) -> ImageSplit:
        """An OOD set, which must hold none of the known classes."""
        images = self._open(split, ())
        left_out = tuple(name.replace("_", " ") for name in split.without)
        shared = tuple(n for n in images.label_names if n in known and n not in left_out)
        if shared:
            raise ConfigError(
                f"OOD set {images.description}: {len(shared)} of its classes are classes of the "
                f"model, first {shared[0]!r}. Leave them out: without={left_out + shared}."
            )
        return images

    def _open(self, split: Split, class_names: tuple[str, ...]) -> ImageSplit:
        """A split, opened and decoded once however many sources and sets name it."""
        key = (type(split), *dataclasses.astuple(split), class_names)
        if key not in self._opened:
            self._opened[key] = ImageSplit(
                split,
                # What this run has prepared comes before a namesake that was there already.
                (self._workdir.data, pathlib.Path(self._experiment.data_dir)),
                image_size=self._texts.encoder.config.vision.image_size,
                class_names=class_names,
                resize=cast(Resize, self._experiment.resize),
            )
            self._opened[key].image(0)
        return self._opened[key]


def _unit(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """The rows as a head takes them."""
    return np.asarray(normalize(jnp.asarray(features)))
