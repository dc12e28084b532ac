"""A study: several experiments with the same methods, from one pre-trained model, in one table."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
import pickle
from multiprocessing import resource_tracker
from typing import Any

import jax

from calib_jax.core import progress, settings, signals
from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.printing import say
from calib_jax.report.study import study_markdown, write_study
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.plan import later_work
from calib_jax.runs.run import run
from calib_jax.runs.study_record import collect_study
from calib_jax.runs.workdir import read_json, write_json

_PRETRAIN = "pretrain"


@dataclasses.dataclass(kw_only=True)
class Study:
    """Experiments that start from one model, and how they are compared.

    Attributes:
        title: The report's headline.
        pretrain: Pre-trains the model that all experiments start from, with one seed.
        experiments: By the name of their folders; `pretrained` and `data_dir` are set by the run.
        order: Methods in their published order of OOD accuracy, the worst first.
        baselines: Every method's paired differences to these are shown.
        only: The part to run now, `pretrain` or an experiment, where several commands share the
            work; empty: all.
        processes: Experiments at a time, each in a process of its own. Small models leave most
            cores of a CPU waiting for one of them; an accelerator belongs to one process.
        data_dir: The folder of prepared TFDS data sets.
    """

    title: str
    pretrain: Experiment
    experiments: dict[str, Experiment]
    order: tuple[str, ...]
    baselines: tuple[str, ...] = ("flyp", "carot")
    only: str = ""
    processes: int = 1
    data_dir: str = "data"

    def validate(self) -> None:
        """Raises a ConfigError for the first setting that is out of range or missing."""
        if not self.experiments or _PRETRAIN in self.experiments:
            raise ConfigError(
                f"experiments: got {', '.join(self.experiments) or 'none'}, expected at least one, "
                f"and none called {_PRETRAIN!r}. Correct it."
            )
        known = (_PRETRAIN, *self.experiments)
        if self.only and self.only not in known:
            raise ConfigError(
                f"only: got {self.only!r}, expected one of {', '.join(known)}."
                f"{nearest(self.only, known)} Correct it."
            )
        if self.processes < 1 or (self.processes > 1 and jax.default_backend() != "cpu"):
            raise ConfigError(
                f"processes: got {self.processes}, expected 1, or more on a CPU alone (here: "
                f"{jax.default_backend()}). Set it to 1."
            )
        if len(self.pretrain.seeds) != 1:
            raise ConfigError(
                f"pretrain.seeds: got {self.pretrain.seeds}, expected one: all experiments start "
                "from the same model. Correct it."
            )
        for name, experiment in self.experiments.items():
            for baseline in self.baselines:
                if baseline not in experiment.methods:
                    raise ConfigError(
                        f"baselines: got {baseline!r}, which is no method of experiments.{name}."
                        f"{nearest(baseline, experiment.methods)} Correct it."
                    )
            self._check_can_be_sent(name, experiment)

    def _check_can_be_sent(self, name: str, experiment: Experiment) -> None:
        if self.processes == 1:
            return
        try:
            pickle.dumps(experiment)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"processes: got {self.processes}, but experiments.{name} cannot be sent to "
                f"another process ({error}). Move what the config file itself defines into a "
                "module that it imports, or set processes=1."
            ) from error


def _run_all(experiments: dict[str, Experiment], path: pathlib.Path, *, processes: int) -> None:
    folders = [path / name for name in experiments]
    if processes == 1 or len(experiments) < 2:
        for number, (name, experiment) in enumerate(experiments.items()):
            later = later_work(dict(list(experiments.items())[number + 1 :]), path)
            label = f"{name} ({number + 1} of {len(experiments)})"
            with progress.put_up(progress.Board(label=label, later=later)):
                run(experiment, path / name)
        return
    # Not forked: JAX's threads would not survive it.
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # its start would let the signals through
    with concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=context, initializer=signals.begin
    ) as pool:
        with signals.blocked():
            results = pool.map(_run_alone, experiments, experiments.values(), folders)
        try:
            list(results)
        except signals.Stopped:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _run_alone(name: str, experiment: Experiment, folder: pathlib.Path) -> None:
    """Runs an experiment in a process of its own, beside others: no bars, which would be mixed."""
    with signals.handled(), progress.put_up(progress.Board(label=name, bars=False)):
        run(experiment, folder)


def run_study(study: Study, path: pathlib.Path) -> dict[str, Any]:
    """The content of `study.json`, after everything that was not finished before has been done.

    `path` gets a folder for the pre-training and for each experiment, each a workdir of `run`, and
    the page `report.html` and its tables as `report.md`. With `only`, the page is made as soon as
    the last of the experiments is there.

    Raises:
        ConfigError: Before anything expensive.
        CalibJaxError: As `run`.
    """
    settings.check(study)
    folder = path / _PRETRAIN
    model = folder / "pretrained" / f"seed_{study.pretrain.seeds[0]}"
    experiments = {
        name: dataclasses.replace(experiment, pretrained=str(model), data_dir=study.data_dir)
        for name, experiment in study.experiments.items()
    }
    for experiment in experiments.values():
        settings.check(experiment)
    # Also where it is finished: a model of another config would be refused here.
    run(dataclasses.replace(study.pretrain, data_dir=study.data_dir), folder)
    chosen = {k: v for k, v in experiments.items() if k == (study.only or k)}
    _run_all(chosen, path, processes=study.processes)
    files = {name: path / name / "results.json" for name in experiments}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        say(f"Not finished yet: {', '.join(missing)}")
        return {}
    results = {name: read_json(file) for name, file in files.items()}
    models = {found["config"].get("pretrained_weights_crc32") for found in results.values()}
    if len(models) > 1:
        raise ConfigError(
            f"workdir {path}: its experiments started from {len(models)} different models, "
            "expected one. Choose another --workdir."
        )
    found = collect_study(
        results,
        title=study.title,
        order=study.order,
        baselines=study.baselines,
    )
    write_json(path / "study.json", found)
    found = json.loads((path / "study.json").read_text(encoding="utf-8"))
    write_study(path / "report.html", found)
    (path / "report.md").write_text(study_markdown(found), encoding="utf-8")
    say(f"Report: {path / 'report.html'}")
    return found
