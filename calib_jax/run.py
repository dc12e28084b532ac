"""`run`: methods x seeds -> fit -> evaluate -> report."""

from __future__ import annotations

import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import rich
from jax.sharding import Mesh
from tokenizers import Tokenizer

from calib_jax.core import rngs, settings
from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh, replicated
from calib_jax.core.trees import regex_mask
from calib_jax.core.types import Params
from calib_jax.data.captions import CaptionTable, class_prompts, tokenize, word_tokenizer
from calib_jax.data.datasets.prepared import ImageSplit, Split
from calib_jax.data.pipeline import CaptionedImages, training_batches
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.evaluate import VALIDATION, evaluate
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.report import write_report
from calib_jax.evaluation.report_tables import terminal_table
from calib_jax.evaluation.results import collect, example_images
from calib_jax.evaluation.shifts import classification_metrics
from calib_jax.experiment import PRETRAIN, Experiment, Stage
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights.openai import read_openai, write_openai
from calib_jax.objectives.views import Tables
from calib_jax.training.history import History
from calib_jax.training.loop import Fitted, fit, initial_params
from calib_jax.training.workdir import Workdir, write_json

WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
_PROBE_SIZE = 512


def run(experiment: Experiment, path: pathlib.Path) -> dict[str, Any]:
    """The content of `results.json`, after everything that was not finished before has been done.

    Args:
        experiment: The config.
        path: The workdir; the same command goes on where it was stopped.

    Raises:
        ConfigError: Before anything expensive.
        CalibJaxError: A training failed, or a file is damaged.
    """
    start = time.monotonic()
    mesh = make_mesh(fsdp=experiment.fsdp)
    experiment.validate(mesh)
    workdir = Workdir(path)
    config = settings.to_dict(experiment)
    workdir.check(config)
    for prepare in experiment.prepare:
        prepare(pathlib.Path(experiment.data_dir), workdir.data)
    assembly = Assembly(experiment, workdir, mesh)
    workdir.claim(config)
    runs = [
        assembly.record(name, method, seed)
        for seed in experiment.seeds
        for name, method in experiment.methods.items()
    ]
    results = collect(
        runs,
        experiment.evaluation,
        assembly.splits,
        name=experiment.name,
        title=experiment.title,
        class_names=experiment.finetune.class_names,
        seeds=experiment.seeds,
        tuned_on=experiment.tuned_on,
        config=config,
        wall_seconds=time.monotonic() - start,
    )
    write_json(workdir.results, results)
    examples = example_images(runs, assembly.splits, experiment.seeds[0])
    write_report(workdir.report, results, assembly.history.rows(), examples)
    rich.print(terminal_table(results))
    rich.print(f"Report: {workdir.report}")
    return results


class Assembly:
    """An experiment with its data opened and its texts tokenised, checked before any training."""

    def __init__(self, experiment: Experiment, workdir: Workdir, mesh: Mesh):
        """Opens all data sets.

        Raises:
            ConfigError: A data set, a class name, a word, a regex or the pre-trained model does not
                fit.
        """
        self._experiment = experiment
        self._workdir = workdir
        self._mesh = mesh
        self._encoder = Encoder(experiment.model)
        self._opened: dict[tuple[str, ...], ImageSplit] = {}
        self.history = History(workdir.metrics)
        evaluation = experiment.evaluation
        class_names = experiment.finetune.class_names
        self.splits = {
            **{k: self._open(v, class_names) for k, v in evaluation.labelled().items()},
            **{k: self._open(v, ()) for k, v in evaluation.unknown().items()},
        }
        self._tokenizer = self._make_tokenizer()
        self._tables = {}
        self._images = {}
        for name, method, stage in experiment.phases():
            self._tables[name] = self._make_tables(stage)
            self._images[name] = self._captioned(stage)
            if method.terms:
                regex_mask(self._shapes(method, self._tables[name]), method.trainable)
        self._initial: dict[int, Params] = {}
        self._read_pretrained()

    def record(self, name: str, method: Method, seed: int) -> dict[str, Any]:
        """What `results.json` holds of one method and seed; trained and evaluated where need be."""
        path = self._workdir.evaluation(name, seed)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        predictor = self._predictor(name, method)
        params = self._pretrained(seed)
        fitted = self._fit(name, method, self._experiment.finetune, params, seed)
        record = {
            "method": name,
            "seed": seed,
            "num_steps": fitted.num_steps,
            "train_seconds": fitted.train_seconds,
            **evaluate(
                predictor,
                fitted.params,
                self.splits,
                self._experiment.evaluation,
                self._experiment.finetune.class_names,
                bar=f"evaluate {name}",
            ),
        }
        write_json(path, record)
        return record

    def _pretrained(self, seed: int) -> Params:
        """The encoder's parameters that every method of a seed starts from."""
        if seed not in self._initial:
            self._initial = {seed: self._read_pretrained() or self._pretrain(seed)}
        return self._initial[seed]

    def _pretrain(self, seed: int) -> Params:
        method, stage = self._experiment.pretrain_method, self._experiment.pretrain
        if method is None or stage is None:
            raise ConfigError("pretrained: got an empty name and no pretrain stage. Set one.")
        start = jax.jit(self._encoder.init)(rngs.key(seed, 0, "encoder"))
        params = self._fit(PRETRAIN, method, stage, start, seed).params["encoder"]
        folder = self._workdir.pretrained(seed)
        folder.mkdir(parents=True, exist_ok=True)
        write_openai(folder / WEIGHTS_FILE, self._experiment.model, params)
        self._tokenizer.save(str(folder / TOKENIZER_FILE))
        return params

    def _read_pretrained(self) -> Params | None:
        """The weights of the config's folder, or None where it names none."""
        if not self._experiment.pretrained:
            return None
        path = pathlib.Path(self._experiment.pretrained) / WEIGHTS_FILE
        model = self._experiment.model
        found, params = read_openai(path, activation=model.activation)
        for part in ("vision", "text", "embed_dim"):
            expected, got = (settings.to_dict(getattr(c, part)) for c in (model, found))
            changes = list(settings.differences(expected, got, f"model.{part}"))
            if changes:
                raise ConfigError(
                    f"pretrained: {path} holds another model: {'; '.join(changes)}. "
                    "Set the model's fields to these, or choose another folder."
                )
        return params

    def _fit(
        self, name: str, method: Method, stage: Stage, encoder_params: Params, seed: int
    ) -> Fitted:
        tables = self._tables[name]
        predictor = self._predictor(name, method)
        validation = {VALIDATION: self.splits[VALIDATION]}

        def probe(params: Params) -> dict[str, float]:
            predictions = predictor(params, validation, limit=_PROBE_SIZE)[VALIDATION]
            projection = np.asarray(self._encoder.image_projection(params["encoder"]), np.float64)
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
            self._encoder,
            initial_params(method, self._encoder, encoder_params, tables, seed),
            tables,
            name=name,
            seed=seed,
            training=stage.training,
            mesh=self._mesh,
            directory=self._workdir.checkpoints(name, seed),
            history=self.history,
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

    def _predictor(self, name: str, method: Method) -> Predictor:
        return Predictor(
            self._encoder,
            method.classifier,
            self._tables[name],
            mesh=self._mesh,
            batch_size=self._experiment.evaluation.batch_size,
        )

    def _shapes(self, method: Method, tables: Tables) -> Params:
        """The shapes of a method's parameters."""

        def start(tables: Tables) -> Params:
            encoder_params = self._encoder.init(rngs.key(0, 0, "encoder"))
            return initial_params(method, self._encoder, encoder_params, tables, seed=0)

        return jax.eval_shape(start, tables)

    def _open(self, split: Split, class_names: tuple[str, ...]) -> ImageSplit:
        """A split, opened and decoded once however many sources and sets name it."""
        key = (split.name, split.split, *class_names)
        if key not in self._opened:
            self._opened[key] = ImageSplit(
                split,
                (pathlib.Path(self._experiment.data_dir), self._workdir.data),
                image_size=self._experiment.model.vision.image_size,
                class_names=class_names,
            )
        return self._opened[key]

    def _captioned(self, stage: Stage) -> CaptionedImages:
        splits = [self._open(source.split, stage.class_names) for source in stage.sources]
        return CaptionedImages(stage.sources, splits, stage.captions())

    def _make_tokenizer(self) -> Tokenizer:
        """The pre-trained model's tokenizer, or one that knows the words of all captions."""
        if self._experiment.pretrained:
            path = pathlib.Path(self._experiment.pretrained) / TOKENIZER_FILE
            if not path.exists():
                raise ConfigError(
                    f"pretrained: no {TOKENIZER_FILE} in {path.parent}. Set --config.pretrained "
                    "to a folder that a pre-training run has written."
                )
            return Tokenizer.from_file(str(path))
        experiment = self._experiment
        prompts = CaptionTable(experiment.finetune.class_names, experiment.evaluation.templates)
        tables = [prompts, *(stage.captions() for _, _, stage in experiment.phases())]
        return word_tokenizer(text for table in tables for text in table.texts())

    def _make_tables(self, stage: Stage) -> Tables:
        experiment, text = self._experiment, self._experiment.model.text
        captions = tokenize(self._tokenizer, stage.captions().texts())
        prompts = class_prompts(
            self._tokenizer, experiment.finetune.class_names, experiment.evaluation.templates
        )
        vocab_size = self._tokenizer.get_vocab_size()
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
        everywhere = replicated(self._mesh)
        return Tables(
            captions=jax.device_put(captions, everywhere),
            class_tokens=jax.device_put(prompts, everywhere),
        )
