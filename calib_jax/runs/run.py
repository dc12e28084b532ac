"""`run`: methods x seeds -> fit -> evaluate -> report."""

from __future__ import annotations

import dataclasses
import pathlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import rich

from calib_jax.core import settings
from calib_jax.core.sharding import make_mesh
from calib_jax.core.trees import interpolate
from calib_jax.core.types import Params
from calib_jax.evaluation.evaluate import evaluate
from calib_jax.methods.method import Method
from calib_jax.report.page import write_report
from calib_jax.report.tables import terminal_table
from calib_jax.runs.assembly import Assembly
from calib_jax.runs.experiment import PRETRAIN, Experiment, Export
from calib_jax.runs.results import collect, datasets_of, example_images
from calib_jax.runs.texts import Texts, read_texts, with_class_names
from calib_jax.runs.tuning import choose
from calib_jax.runs.workdir import Workdir, read_json, write_json
from calib_jax.training.loop import Fitted
from calib_jax.weight_space.curves import curve
from calib_jax.weight_space.rows import Fit

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
        names = (*experiment.methods, *experiment.weight_space)
        cells = [(name, seed) for seed in experiment.seeds for name in names]
        is_finished = workdir.results.exists() and all(
            workdir.evaluation(*cell).exists() for cell in cells
        )
        chosen, tuning = choose(assembly, experiment, workdir)
        bench = _Bench(assembly, experiment, workdir, chosen)
        runs = [bench.record(name, seed) for name, seed in cells]
        if not is_finished:
            results = collect(
                runs,
                datasets_of(experiment.evaluation, assembly.splits),
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
        results = _with_curves(read_json(workdir.results), bench)
        examples = example_images(runs, assembly.splits, experiment.seeds[0])
        names_of = {phase: name for name, (phase, _) in chosen.items()}
        history = _of_methods(assembly.history.rows(), names_of)
        write_report(workdir.report, results, history, examples)
    rich.print(terminal_table(results))
    rich.print(f"Report: {workdir.report}")
    if workdir.models.exists():
        rich.print(f"Models: {workdir.models}")
    return results


def _with_curves(results: dict[str, Any], bench: _Bench) -> dict[str, Any]:
    """The results, and what is asked for over alpha."""
    curves = {name: bench.curve(name) for name in bench.experiment.export.curves}
    if curves and results.get("curves") != curves:
        results = results | {"curves": curves}
        write_json(bench.workdir.results, results)
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


@dataclasses.dataclass(frozen=True)
class _Bench:
    """Makes the cells of the table: what is finished is read, the rest is trained and tested."""

    assembly: Assembly
    experiment: Experiment
    workdir: Workdir
    chosen: dict[str, tuple[str, Method]]

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
        fitted = self.assembly.fit(phase, method, seed)
        if not path.exists():
            spent: dict[str, Any] = {
                "num_steps": fitted.num_steps,
                "train_seconds": fitted.train_seconds,
            }
            if fitted.chosen:
                spent["chosen"] = fitted.chosen
            self._write(name, seed, method, fitted.params, spent)
        if folders:
            for folder, params in zip(folders, _exported(fitted, export), strict=True):
                if not folder.exists():
                    self.assembly.export(folder, method, params)
        return read_json(path)

    def curve(self, name: str) -> dict[str, Any]:
        """What WiSE-FT makes of a trained method on every reported split, for the first seed."""
        seed = self.experiment.seeds[0]
        path = self.workdir.curve(name, seed)
        if not path.exists():
            phase, method = self.chosen[name]
            fitted = self.assembly.fit(phase, method, seed)
            evaluation = self.experiment.evaluation
            reported = (evaluation.id_name, *evaluation.shifts)
            found = curve(
                self.assembly.predictor(method),
                fitted.start,
                fitted.params,
                {split: self.assembly.splits[split] for split in reported},
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
            fits = [self.assembly.fit(phase, method, member) for member in members]
            began = time.monotonic()
            found = combination(
                fits[0].start,
                [Fit(fitted.params, fitted.teacher) for fitted in fits],
                self.assembly.held_out(method),
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
            self.assembly.predictor(method),
            params,
            self.assembly.splits,
            evaluation,
            self.experiment.finetune.class_names,
            zero_shot=self.assembly.zero_shot(seed) if evaluation.needs_zero_shot() else None,
            bar=f"evaluate {name}",
        )
        record = {"method": name, "seed": seed, **spent, **found}
        write_json(self.workdir.evaluation(name, seed), record)


def _exported(fitted: Fitted, export: Export) -> Iterator[Params]:
    """The models of `export.folders`, one at a time: each may be large."""
    if export.models:
        yield fitted.params
    if export.teacher and fitted.teacher is not None:
        yield fitted.teacher
    for share in export.wise_ft:
        yield interpolate(fitted.start, fitted.params, share)
