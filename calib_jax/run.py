"""`run`: methods x seeds -> fit -> evaluate -> report."""

from __future__ import annotations

import pathlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import rich

from calib_jax.assembly import Assembly
from calib_jax.core import settings
from calib_jax.core.sharding import make_mesh
from calib_jax.core.trees import interpolate
from calib_jax.core.types import Params
from calib_jax.evaluation.evaluate import evaluate
from calib_jax.evaluation.report import write_report
from calib_jax.evaluation.report_tables import terminal_table
from calib_jax.evaluation.results import collect, example_images
from calib_jax.experiment import Experiment, Export
from calib_jax.texts import Texts, read_texts, with_class_names
from calib_jax.training.loop import Fitted
from calib_jax.training.workdir import Workdir, read_json, write_json

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
    settings.check_types(experiment, Experiment, "config")
    mesh = make_mesh(fsdp=experiment.fsdp)
    experiment.validate(mesh)
    experiment = with_class_names(experiment)
    texts = read_texts(experiment, mesh)
    config = _described(experiment, texts)
    identity = {key: value for key, value in config.items() if key not in _NO_PART_OF_IT}
    with Workdir(path).opened(identity) as workdir:
        for prepare in experiment.prepare:
            prepare(pathlib.Path(experiment.data_dir), workdir.data)
        assembly = Assembly(experiment, texts, workdir, mesh)
        workdir.claim(identity)
        cells = [(name, seed) for seed in experiment.seeds for name in experiment.methods]
        is_finished = workdir.results.exists() and all(
            workdir.evaluation(*cell).exists() for cell in cells
        )
        runs = [_record(assembly, experiment, workdir, name=n, seed=s) for n, s in cells]
        if not is_finished:
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
        # As written: a later look at a finished run keeps its date, machine and duration.
        results = read_json(workdir.results)
        examples = example_images(runs, assembly.splits, experiment.seeds[0])
        write_report(workdir.report, results, assembly.history.rows(), examples)
    rich.print(terminal_table(results))
    rich.print(f"Report: {workdir.report}")
    if workdir.models.exists():
        rich.print(f"Models: {workdir.models}")
    return results


def _described(experiment: Experiment, texts: Texts) -> dict[str, Any]:
    """The config, and a checksum of the weights it names: a path alone does not tell the model."""
    config = settings.to_dict(experiment)
    if texts.pretrained is not None:
        checksum = 0
        for leaf in jax.tree.leaves(texts.pretrained):
            checksum = zlib.crc32(np.ascontiguousarray(leaf).data, checksum)
        config["pretrained_weights_crc32"] = checksum
    return config


def _record(
    assembly: Assembly,
    experiment: Experiment,
    workdir: Workdir,
    *,
    name: str,
    seed: int,
) -> dict[str, Any]:
    """What `results.json` holds of one method and seed; trained and evaluated where need be."""
    path = workdir.evaluation(name, seed)
    method, stage = experiment.methods[name], experiment.finetune
    folders = [workdir.model(folder, seed) for folder in experiment.export.folders(name, method)]
    if path.exists() and all(folder.exists() for folder in folders):
        return read_json(path)
    fitted = assembly.fit(name, method, stage, assembly.pretrained(seed), seed)
    if not path.exists():
        record = {
            "method": name,
            "seed": seed,
            "num_steps": fitted.num_steps,
            "train_seconds": fitted.train_seconds,
            **evaluate(
                assembly.predictor(name, method),
                fitted.params,
                assembly.splits,
                experiment.evaluation,
                stage.class_names,
                bar=f"evaluate {name}",
            ),
        }
        write_json(path, record)
    if folders:
        for folder, params in zip(folders, _exported(fitted, experiment.export), strict=True):
            if not folder.exists():
                assembly.export(folder, name, method, params)
    return read_json(path)


def _exported(fitted: Fitted, export: Export) -> Iterator[Params]:
    """The models of `export.folders`, one at a time: each may be large."""
    if export.models:
        yield fitted.params
    if export.teacher and fitted.teacher is not None:
        yield fitted.teacher
    for share in export.wise_ft:
        yield interpolate(fitted.start, fitted.params, share)
