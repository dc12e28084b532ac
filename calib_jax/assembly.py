"""An experiment made ready: its data opened and checked, its models trained, tested, exported."""

from __future__ import annotations

import pathlib
import shutil
from typing import cast

import jax
import numpy as np
from jax.sharding import Mesh

from calib_jax.classifiers.stored import CLASSIFIER_FILE, write_head
from calib_jax.core import rngs, settings
from calib_jax.core.errors import ConfigError, ExportError
from calib_jax.core.types import Params
from calib_jax.data.datasets.prepared import ImageSplit, Split
from calib_jax.data.images import Resize
from calib_jax.data.pipeline import CaptionedImages, training_batches
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.evaluate import VALIDATION
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.shifts import classification_metrics
from calib_jax.experiment import PRETRAIN, Experiment, Stage
from calib_jax.methods.method import Method
from calib_jax.models.weights.export import write_model
from calib_jax.texts import Texts
from calib_jax.training.history import History
from calib_jax.training.loop import BatchIterator, Fitted, Logbook, fit, initial_params
from calib_jax.training.workdir import Workdir

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
        self._opened: dict[tuple[str, ...], ImageSplit] = {}
        self._initial: dict[int, Params] = {}
        self.history = History(workdir.metrics)
        evaluation = experiment.evaluation
        class_names = experiment.finetune.class_names
        self.splits = {
            **{k: self._open(v, class_names) for k, v in evaluation.labelled().items()},
            **{k: self._open(v, ()) for k, v in evaluation.unknown().items()},
        }
        absent = self.splits[evaluation.id_name].absent
        if absent:
            raise ConfigError(
                f"finetune.class_names: {len(absent)} of the {len(class_names)} are no class of "
                f"{self.splits[evaluation.id_name].description}, first {absent[0]!r}. Remove them, "
                "or choose another id_split."
            )
        self._images = {}
        for name, method, stage in experiment.phases():
            if not method.terms:
                continue
            splits = [self._open(source.split, stage.class_names) for source in stage.sources]
            self._images[name] = CaptionedImages(stage.sources, splits, stage.captions())
            if len(self._images[name]) < stage.training.batch_size:
                field = PRETRAIN if name == PRETRAIN else "finetune"
                raise ConfigError(
                    f"{field}.training.batch_size: got {stage.training.batch_size}, expected at "
                    f"most the {len(self._images[name])} training images. Lower it."
                )

    def pretrained(self, seed: int) -> Params:
        """The encoder's parameters that every method of a seed starts from."""
        if self._texts.pretrained is not None:
            return self._texts.pretrained
        if seed not in self._initial:
            self._initial = {seed: self._pretrain(seed)}
        return self._initial[seed]

    def _pretrain(self, seed: int) -> Params:
        name, method, stage = self._experiment.phases()[0]
        start = jax.jit(self._texts.encoder.init)(rngs.key(seed, 0, "encoder"))
        params = self.fit(name, method, stage, start, seed).params["encoder"]
        self._write_model(self._workdir.pretrained(seed), params)
        return params

    def fit(
        self, name: str, method: Method, stage: Stage, encoder_params: Params, seed: int
    ) -> Fitted:
        """A phase, trained from the encoder's parameters, with numbers of the validation split."""
        tables, encoder = self._texts.tables[name], self._texts.encoder
        predictor = self.predictor(name, method)
        validation = {name: self.splits[name] for name in (VALIDATION,) if name in self.splits}

        def probe(params: Params) -> dict[str, float]:
            predictions = predictor(params, validation, limit=_PROBE_SIZE)[VALIDATION]
            projection = np.asarray(encoder.image_projection(params["encoder"]), np.float64)
            metrics = classification_metrics(predictions)
            return {
                "smallest_singular_value": spectrum(predictions.features)[-1],
                "projection_smallest_singular_value": np.linalg.svd(projection, compute_uv=False)[
                    -1
                ],
                "validation_accuracy": metrics["accuracy"],
                "validation_nll": metrics["nll"],
            }

        return fit(
            method,
            encoder,
            initial_params(method, encoder, encoder_params, tables, seed),
            tables,
            training=stage.training,
            mesh=self._mesh,
            logbook=Logbook(
                name=name,
                seed=seed,
                directory=self._workdir.checkpoints(name, seed),
                config=settings.to_dict(self._experiment),
                history=self.history,
            ),
            make_batches=lambda: self._training_batches(name, stage, seed),
            probe=probe,
        )

    def _training_batches(self, name: str, stage: Stage, seed: int) -> BatchIterator:
        return training_batches(
            self._images[name],
            batch_size=stage.training.batch_size,
            image_size=self._texts.encoder.config.vision.image_size,
            augmentation=stage.augmentation,
            resize=cast(Resize, self._experiment.resize),
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def export(self, folder: pathlib.Path, name: str, method: Method, params: Params) -> None:
        """Writes a model for other tools: Hugging Face files, and the classifier beside them.

        Args:
            folder: Is complete as soon as it is there.
            name: The method's.
            method: Makes the head.
            params: `{"encoder": ..., "classifier": ...}`.

        Raises:
            ExportError: It cannot be written.
        """
        head = self.predictor(name, method).head(params)
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

    def predictor(self, name: str, method: Method) -> Predictor:
        """What predicts splits with a method's classifier."""
        return Predictor(
            self._texts.encoder,
            method.classifier,
            self._texts.tables[name],
            mesh=self._mesh,
            batch_size=self._experiment.evaluation.batch_size,
            cache=pathlib.Path(self._experiment.cache_dir).expanduser() / "heads",
        )

    def _open(self, split: Split, class_names: tuple[str, ...]) -> ImageSplit:
        """A split, opened and decoded once however many sources and sets name it."""
        key = (type(split).__name__, split.name, split.split, *class_names)
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
