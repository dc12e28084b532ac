"""`run`: methods x seeds -> fit -> evaluate -> report."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from jax.sharding import Mesh

from calib_jax.core import progress, settings
from calib_jax.core.errors import ConfigError
from calib_jax.core.printing import say
from calib_jax.core.processes import is_writer
from calib_jax.core.sharding import make_mesh
from calib_jax.evaluation.store import num_bytes
from calib_jax.report.page import write_report
from calib_jax.report.tables import terminal_table
from calib_jax.runs.experiment import PRETRAIN, Experiment
from calib_jax.runs.export import Exporter
from calib_jax.runs.features import Features
from calib_jax.runs.identity import Identities
from calib_jax.runs.notes import notes
from calib_jax.runs.page_record import with_page
from calib_jax.runs.plan import candidates, rows_work, tuning_work
from calib_jax.runs.results import datasets_of, example_images, results_of
from calib_jax.runs.rows import Rows
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import Texts, read_texts, with_class_names
from calib_jax.runs.trainer import Trainer
from calib_jax.runs.tuning import check_judges, choose, described
from calib_jax.runs.workdir import Workdir, read_json, write_json

# What no number of the results depends on.
_NO_PART_OF_IT = ("cache_dir", "export", "sections")


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
    for note in notes(experiment):
        say(f"calib_jax: note: {note}", file=sys.stderr)
    mesh = make_mesh(fsdp=experiment.fsdp)
    experiment = with_class_names(experiment)
    texts = read_texts(experiment, mesh)
    with Workdir(path).opened() as workdir, progress.put_up(_new_board()) as board:
        workdir.check_kind(settings.to_dict(experiment))
        trainer = _opened(experiment, texts, workdir, mesh)
        config = _described(experiment, trainer.identities)
        write_json(workdir.config, config)
        before = Rows(trainer, candidates(experiment))
        board.plan(tuning_work(trainer) | rows_work(trainer, before.chosen, before.is_finished))
        chosen, tuning = choose(trainer, trainer.features)
        rows = Rows(trainer, chosen)
        board.plan(rows_work(trainer, chosen, rows.is_finished))
        names = (*experiment.methods, *experiment.weight_space)
        _announce(rows.changes(names, experiment.seeds), workdir)
        runs = [rows.record(name, seed) for seed in experiment.seeds for name in names]
        if rows.has_new or not _is_of(workdir.results, config):
            workdir.archive(workdir.page())
            results = results_of(
                runs,
                datasets_of(experiment.evaluation, trainer.splits.evaluated),
                name=experiment.name,
                title=experiment.title,
                class_names=experiment.finetune.class_names,
                seeds=experiment.seeds,
                tuned_on=experiment.tuned_on or described(tuning),
                tuning=tuning,
                config=config,
                table_score=experiment.evaluation.score,
                metrics=experiment.evaluation.metrics,
                wall_seconds=time.monotonic() - start,
            )
            write_json(workdir.results, results)
        # As written: a later look at a finished run keeps its date, machine and duration.
        results = _with_curves(read_json(workdir.results), rows)
        examples = example_images(runs, trainer.splits.evaluated, experiment.seeds[0])
        names_of = {phase: name for name, (phase, _) in chosen.items()}
        history = _of_methods(trainer.history.rows(), names_of)
        results = _with_page(results, history, workdir)
        write_report(workdir.report, results, examples, experiment.sections)
    _print(results, workdir)
    return results


def _new_board() -> progress.Board:
    """A board for the run, as the one that is up: a study's has a label."""
    up = progress.board()
    return progress.Board(
        later=up.later, label=up.label, bars=up.bars, stream=up.stream, is_shown=is_writer()
    )


def _opened(experiment: Experiment, texts: Texts, workdir: Workdir, mesh: Mesh) -> Trainer:
    """Everything opened and checked; a run that is refused leaves no data that it has prepared."""
    is_new = not workdir.data.exists()
    try:
        return _checked(experiment, texts, workdir, mesh)
    except ConfigError:
        if is_new:
            shutil.rmtree(workdir.data, ignore_errors=True)
        raise


def _checked(experiment: Experiment, texts: Texts, workdir: Workdir, mesh: Mesh) -> Trainer:
    """Everything opened; what the folder keeps is of these trainings."""
    for prepare in experiment.prepare:
        prepare(pathlib.Path(experiment.data_dir), workdir.data)
    # What this run has prepared comes before a namesake that was there already.
    folders = (workdir.data, pathlib.Path(experiment.data_dir))
    splits = Splits(experiment, folders, image_size=texts.encoder.config.vision.image_size)
    identities = Identities(experiment, texts, splits)
    found = identities.trainings()
    workdir.check_trainings(
        {(phase, seed): found[phase] for phase in found for seed in experiment.seeds}
    )
    features = Features(experiment, texts, splits, mesh)
    check_judges(experiment, splits.evaluated)
    exporter = Exporter(texts.encoder, texts.tokenizer, experiment.finetune.class_names)
    return Trainer(experiment, texts, splits, features, exporter, identities, workdir, mesh)


def _announce(changes: Sequence[str], workdir: Workdir) -> None:
    """Says why finished models are evaluated again."""
    if not changes:
        return
    more = f" and {len(changes) - 3} more changes" if len(changes) > 3 else ""
    is_same_model = not any(change.startswith("model.") for change in changes)
    say(
        f"{'; '.join(changes[:3])}{more}: the finished models are evaluated again"
        f"{', not trained again' * is_same_model}; the earlier record is kept in {workdir.earlier}"
    )


def _is_of(path: pathlib.Path, config: dict[str, Any]) -> bool:
    """Whether results are there, and of a config that says the same."""
    if not path.exists():
        return False
    now, stored = json.loads(json.dumps(config)), read_json(path).get("config", {})
    return {k: v for k, v in now.items() if k not in _NO_PART_OF_IT} == {
        k: v for k, v in stored.items() if k not in _NO_PART_OF_IT
    }


def _print(results: dict[str, Any], workdir: Workdir) -> None:
    say(terminal_table(results))
    say(f"Report: {workdir.report}")
    if workdir.models.exists():
        say(f"Models: {workdir.models}")
    kept = workdir.path / "predictions"
    if kept.exists():
        say(f"Predictions: {kept} ({num_bytes(kept) / 1e6:.1f} MB; may be deleted)")


def _with_curves(results: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """The results, and what is asked for over alpha."""
    curves = {name: rows.curve(name) for name in rows.experiment.export.curves}
    if curves and results.get("curves") != curves:
        results = results | {"curves": curves}
        write_json(rows.workdir.results, results)
    return results


def _with_page(
    results: dict[str, Any], history: list[dict[str, Any]], workdir: Workdir
) -> dict[str, Any]:
    """The results with the numbers of their page, made anew: older ones lack them."""
    found = with_page(results, history)
    if found != results:
        write_json(workdir.results, found)
    return found


def _of_methods(rows: list[dict[str, Any]], names_of: dict[str, str]) -> list[dict[str, Any]]:
    """The history of what the table shows, under its names: no trial that lost."""
    kept = {PRETRAIN: PRETRAIN} | names_of
    return [row | {"phase": kept[row["phase"]]} for row in rows if row["phase"] in kept]


def _described(experiment: Experiment, identities: Identities) -> dict[str, Any]:
    """The config, and a checksum of the weights that it names."""
    config = settings.to_dict(experiment)
    if identities.pretrained_crc32 is not None:
        config["pretrained_weights_crc32"] = identities.pretrained_crc32
    return dict(config)
