"""An experiment made ready: texts tokenised, models and data opened, all of it checked."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from jax.sharding import Mesh
from tokenizers import Tokenizer

from calib_jax.core import rngs, settings
from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import replicated
from calib_jax.core.trees import regex_mask
from calib_jax.core.types import Params
from calib_jax.data.captions import (
    CaptionTable,
    class_prompts,
    read_tokenizer,
    tokenize,
    word_tokenizer,
)
from calib_jax.data.datasets.prepared import ImageSplit, Split
from calib_jax.data.pipeline import CaptionedImages, training_batches
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.evaluate import VALIDATION
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.shifts import classification_metrics
from calib_jax.experiment import PRETRAIN, Experiment, Stage
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights.openai import read_openai, to_openai, write_openai
from calib_jax.objectives.views import Tables
from calib_jax.training.history import History
from calib_jax.training.loop import Fitted, Logbook, fit, initial_params
from calib_jax.training.workdir import Workdir

WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
_PROBE_SIZE = 512


@dataclasses.dataclass(frozen=True)
class Texts:
    """What needs no images: checked first.

    Attributes:
        encoder: The towers.
        tokenizer: The pre-trained model's, or one that knows the words of all captions.
        tables: The tokenised captions and prompts of each phase.
        pretrained: The parameters that the config's folder holds, or None where it names none.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    tables: dict[str, Tables]
    pretrained: Params | None


def read_texts(experiment: Experiment, mesh: Mesh) -> Texts:
    """The texts of every phase, and the pre-trained model.

    Raises:
        ConfigError: A word, a regex or the pre-trained model does not fit.
    """
    encoder = Encoder(experiment.model)
    tokenizer = _make_tokenizer(experiment)
    tables = {}
    for name, method, stage in experiment.phases():
        tables[name] = _make_tables(experiment, stage, tokenizer, mesh)
        shapes = jax.eval_shape(functools.partial(_initial_params, method, encoder), tables[name])
        if name == PRETRAIN:
            # Its export comes after hours of training: try it on empty arrays now.
            to_openai(experiment.model, jax.tree.map(_empty, shapes["encoder"]))
        if method.terms:
            try:
                regex_mask(shapes, method.trainable)
            except ConfigError as error:
                where = "pretrain_method" if name == PRETRAIN else f"methods.{name}"
                raise ConfigError(f"{where}.{error}") from None
    return Texts(encoder, tokenizer, tables, _read_pretrained(experiment))


def _initial_params(method: Method, encoder: Encoder, tables: Tables) -> Params:
    return initial_params(method, encoder, encoder.init(rngs.key(0, 0, "encoder")), tables, 0)


def _empty(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.broadcast_to(np.zeros((), shape.dtype), shape.shape)


def _make_tokenizer(experiment: Experiment) -> Tokenizer:
    if experiment.pretrained:
        return read_tokenizer(pathlib.Path(experiment.pretrained) / TOKENIZER_FILE)
    prompts = CaptionTable(experiment.finetune.class_names, experiment.evaluation.templates)
    tables = [prompts, *(stage.captions() for _, _, stage in experiment.phases())]
    return word_tokenizer(text for table in tables for text in table.texts())


def _make_tables(experiment: Experiment, stage: Stage, tokenizer: Tokenizer, mesh: Mesh) -> Tables:
    text = experiment.model.text
    captions = tokenize(tokenizer, stage.captions().texts())
    prompts = class_prompts(
        tokenizer, experiment.finetune.class_names, experiment.evaluation.templates
    )
    vocab_size = tokenizer.get_vocab_size()
    if text.vocab_size < vocab_size:
        raise ConfigError(
            f"model.text.vocab_size: got {text.vocab_size}, expected at least the "
            f"{vocab_size} words of the tokenizer. Set model.text.vocab_size={vocab_size}."
        )
    longest = max(captions.shape[-1], prompts.shape[-1])
    if text.context_length < longest:
        raise ConfigError(
            f"model.text.context_length: got {text.context_length}, expected at least the "
            f"{longest} tokens of the longest caption. Set model.text.context_length={longest}."
        )
    everywhere = replicated(mesh)
    return Tables(
        captions=jax.device_put(captions, everywhere),
        class_tokens=jax.device_put(prompts, everywhere),
    )


def _read_pretrained(experiment: Experiment) -> Params | None:
    if not experiment.pretrained:
        return None
    path = pathlib.Path(experiment.pretrained) / WEIGHTS_FILE
    model = experiment.model
    found, params = read_openai(path, activation=model.activation)
    for part in ("vision", "text", "embed_dim"):
        expected, got = (settings.to_dict(getattr(config, part)) for config in (model, found))
        changes = list(settings.differences(expected, got, f"model.{part}"))
        if changes:
            raise ConfigError(
                f"pretrained: {path} holds another model: {'; '.join(changes)}. "
                "Set the model's fields to these, or choose another folder."
            )
    return params


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
                f"{self.splits[evaluation.id_name].description}, first {absent[0]!r}. Remove them."
            )
        self._images = {}
        for name, method, stage in experiment.phases():
            splits = [self._open(source.split, stage.class_names) for source in stage.sources]
            self._images[name] = CaptionedImages(stage.sources, splits, stage.captions())
            if method.terms and len(self._images[name]) < stage.training.batch_size:
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
        folder = self._workdir.pretrained(seed)
        folder.mkdir(parents=True, exist_ok=True)
        write_openai(folder / WEIGHTS_FILE, self._experiment.model, params)
        self._texts.tokenizer.save(str(folder / TOKENIZER_FILE))
        return params

    def fit(
        self, name: str, method: Method, stage: Stage, encoder_params: Params, seed: int
    ) -> Fitted:
        """A phase, trained from the encoder's parameters, with numbers of the validation split."""
        tables, encoder = self._texts.tables[name], self._texts.encoder
        predictor = self.predictor(name, method)
        validation = {VALIDATION: self.splits[VALIDATION]}

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
            make_batches=functools.partial(
                training_batches,
                self._images[name],
                batch_size=stage.training.batch_size,
                image_size=self._experiment.model.vision.image_size,
                augmentation=stage.augmentation,
                seed=seed,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            ),
            probe=probe,
        )

    def predictor(self, name: str, method: Method) -> Predictor:
        """What predicts splits with a method's classifier."""
        return Predictor(
            self._texts.encoder,
            method.classifier,
            self._texts.tables[name],
            mesh=self._mesh,
            batch_size=self._experiment.evaluation.batch_size,
        )

    def _open(self, split: Split, class_names: tuple[str, ...]) -> ImageSplit:
        """A split, opened and decoded once however many sources and sets name it."""
        key = (split.name, split.split, *class_names)
        if key not in self._opened:
            self._opened[key] = ImageSplit(
                split,
                # What this run has prepared comes before a namesake that was there already.
                (self._workdir.data, pathlib.Path(self._experiment.data_dir)),
                image_size=self._experiment.model.vision.image_size,
                class_names=class_names,
            )
            self._opened[key].image(0)
        return self._opened[key]
