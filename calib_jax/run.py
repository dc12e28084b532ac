"""`run`: methods x seeds -> fit -> evaluate -> report."""

from __future__ import annotations

import pathlib
import time
import zlib
from typing import Any

import rich

from calib_jax.assembly import WEIGHTS_FILE, Assembly, read_texts
from calib_jax.core import settings
from calib_jax.core.sharding import make_mesh
from calib_jax.evaluation.evaluate import evaluate
from calib_jax.evaluation.report import write_report
from calib_jax.evaluation.report_tables import terminal_table
from calib_jax.evaluation.results import collect, example_images
from calib_jax.experiment import Experiment
from calib_jax.training.workdir import Workdir, read_json, write_json


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
    texts = read_texts(experiment, mesh)
    config = _identity(experiment)
    with Workdir(path).opened(config) as workdir:
        for prepare in experiment.prepare:
            prepare(pathlib.Path(experiment.data_dir), workdir.data)
        assembly = Assembly(experiment, texts, workdir, mesh)
        workdir.claim(config)
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
    return results


def _identity(experiment: Experiment) -> dict[str, Any]:
    """The config, and a checksum of the weights it names: a path alone does not tell the model."""
    config = settings.to_dict(experiment)
    if experiment.pretrained:
        weights = pathlib.Path(experiment.pretrained) / WEIGHTS_FILE
        config["pretrained_crc32"] = zlib.crc32(weights.read_bytes())
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
    if path.exists():
        return read_json(path)
    method, stage = experiment.methods[name], experiment.finetune
    fitted = assembly.fit(name, method, stage, assembly.pretrained(seed), seed)
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
    return record
