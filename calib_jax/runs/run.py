"""`run`: methods x seeds -> fit -> evaluate -> report."""

from __future__ import annotations

import pathlib
import time
import zlib
from typing import Any

import jax
import numpy as np
import rich

from calib_jax.core import settings
from calib_jax.core.sharding import make_mesh
from calib_jax.report.page import write_report
from calib_jax.report.tables import terminal_table
from calib_jax.runs.experiment import PRETRAIN, Experiment
from calib_jax.runs.export import Exporter
from calib_jax.runs.features import Features
from calib_jax.runs.results import collect, datasets_of, example_images
from calib_jax.runs.rows import Rows
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import Texts, read_texts, with_class_names
from calib_jax.runs.trainer import Trainer
from calib_jax.runs.tuning import choose
from calib_jax.runs.workdir import Workdir, read_json, write_json

# What can be changed without making another run of it.
_NO_PART_OF_IT = ("cache_dir", "export")


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
    settings.check(experiment)
    mesh = make_mesh(fsdp=experiment.fsdp)
    experiment = with_class_names(experiment)
    texts = read_texts(experiment, mesh)
    config = _described(experiment, texts)
    identity = {key: value for key, value in config.items() if key not in _NO_PART_OF_IT}
    with Workdir(path).opened(identity) as workdir:
        for prepare in experiment.prepare:
            prepare(pathlib.Path(experiment.data_dir), workdir.data)
        # What this run has prepared comes before a namesake that was there already.
        folders = (workdir.data, pathlib.Path(experiment.data_dir))
        image_size = texts.encoder.config.vision.image_size
        splits = Splits(experiment, folders, image_size=image_size)
        features = Features(experiment, texts, splits, mesh)
        exporter = Exporter(texts.encoder, texts.tokenizer, experiment.finetune.class_names)
        trainer = Trainer(experiment, texts, splits, features, exporter, workdir, mesh)
        workdir.claim(identity)
        names = (*experiment.methods, *experiment.weight_space)
        cells = [(name, seed) for seed in experiment.seeds for name in names]
        is_finished = workdir.results.exists() and all(
            workdir.evaluation(*cell).exists() for cell in cells
        )
        chosen, tuning = choose(trainer, features)
        rows = Rows(trainer, features, splits, exporter, chosen)
        runs = [rows.record(name, seed) for name, seed in cells]
        if not is_finished:
            results = collect(
                runs,
                datasets_of(experiment.evaluation, splits.evaluated),
                name=experiment.name,
                title=experiment.title,
                class_names=experiment.finetune.class_names,
                seeds=experiment.seeds,
                tuned_on=experiment.tuned_on,
                tuning=tuning,
                config=config,
                table_score=experiment.evaluation.score,
                wall_seconds=time.monotonic() - start,
            )
            write_json(workdir.results, results)
        # As written: a later look at a finished run keeps its date, machine and duration.
        results = _with_curves(read_json(workdir.results), rows)
        examples = example_images(runs, splits.evaluated, experiment.seeds[0])
        names_of = {phase: name for name, (phase, _) in chosen.items()}
        history = _of_methods(trainer.history.rows(), names_of)
        write_report(workdir.report, results, history, examples)
    rich.print(terminal_table(results))
    rich.print(f"Report: {workdir.report}")
    if workdir.models.exists():
        rich.print(f"Models: {workdir.models}")
    return results


def _with_curves(results: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """The results, and what is asked for over alpha."""
    curves = {name: rows.curve(name) for name in rows.experiment.export.curves}
    if curves and results.get("curves") != curves:
        results = results | {"curves": curves}
        write_json(rows.workdir.results, results)
    return results


def _of_methods(rows: list[dict[str, Any]], names_of: dict[str, str]) -> list[dict[str, Any]]:
    """The history of what the table shows, under its names: no trial that lost."""
    kept = {PRETRAIN: PRETRAIN} | names_of
    return [row | {"phase": kept[row["phase"]]} for row in rows if row["phase"] in kept]


def _described(experiment: Experiment, texts: Texts) -> dict[str, Any]:
    """The config, and a checksum of the weights it names: a path alone does not tell the model."""
    config = settings.to_dict(experiment)
    if texts.pretrained is not None:
        checksum = 0
        for leaf in jax.tree.leaves(texts.pretrained):
            checksum = zlib.crc32(np.ascontiguousarray(leaf).data, checksum)
        config["pretrained_weights_crc32"] = checksum
    return config
