"""The toy experiment behind CaRot's bound (arXiv 2311.01723, sections 5.1 and A.1).

For a representation of width d, theorem 3.1 bounds the OOD calibration error of a classifier, and
with it the OOD error, by its ID calibration error plus `d / sigma_min`. Here `sigma_min` is the
smallest singular value of the ID correlation matrix of the representation. `run_theory` trains
many small networks and asks how the bound's quantities go with what they bound.
"""

import dataclasses
import datetime
import functools
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from calib_jax.core import progress, settings
from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.core.numerics import softmax
from calib_jax.core.printing import say
from calib_jax.core.version import __version__
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.metrics import calibration, classification
from calib_jax.metrics.correlation import KINDS, correlation
from calib_jax.runs.results import SCHEMA, environment
from calib_jax.runs.workdir import Workdir, read_json, write_json
from calib_jax.theory import toy
from calib_jax.theory.page import OUTCOMES, QUANTITIES, write_theory_report
from calib_jax.theory.page_record import with_theory_page


@dataclasses.dataclass(kw_only=True)
class Theory:
    """The toy experiment: data, networks, objectives.

    The paper gives `dims`, `flip_rate`, `ood_scale`, three layers and three repeats, 111 models in
    all. The rest is ours: every other number, tanh, Adam at a constant rate, and the mean shift
    that takes the class means away. So are OOD labels that are the ID test set's, a teacher from
    its own initial weights, and the division of the models. Per seed these are one baseline, each
    strength of each term alone, and the k-th strengths of both together. All was set before any
    correlation was seen, but for one thing: 2,000 training examples and widths (128, 32) were tried
    first. There the networks learnt the wrong labels by heart (ID accuracy 73 %, of 85 % that is
    possible). The OOD MSE then went against 1 / sigma_min with r = -0.85 within a seed, with the
    values below with r = -0.21.

    Attributes:
        dims: Inputs whose class means vanish OOD, inputs that shrink OOD, inputs that are noise.
        num_train: Training examples of a seed.
        num_test: Test examples of a seed.
        class_mean: The informative inputs are N(+-class_mean, 1), by class; noise is N(0, 1).
        flip_rate: The share of labels that are wrong, in training and test.
        ood_scale: What the shrinking inputs are multiplied by.
        widths: Of the two hidden layers; the second is the representation.
        learning_rate: Of Adam.
        self_distillation: Weights of the Born-Again term.
        orthogonality: Weights of the orthogonality of the last weight matrix.
        seeds: Of data, initial weights and batches.
    """

    name: str = "theory"
    title: str = "CaRot's bound on toy data"
    dims: tuple[int, int, int] = (400, 400, 200)
    num_train: int = 10_000
    num_test: int = 2_000
    class_mean: float = 0.1
    flip_rate: float = 0.15
    ood_scale: float = 0.5
    widths: tuple[int, int] = (64, 32)
    learning_rate: float = 1e-3
    batch_size: int = 100
    num_steps: int = 400
    self_distillation: tuple[float, ...]
    orthogonality: tuple[float, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    def validate(self) -> None:
        """Raises a ConfigError that names the first field out of range."""
        for name in ("num_train", "batch_size", "num_steps"):
            if getattr(self, name) < 1:
                raise _range_error(name, getattr(self, name), "at least 1")
        for name in ("dims", "widths"):
            if min(getattr(self, name)) < 1:
                raise _range_error(name, getattr(self, name), "numbers of at least 1")
        for name in ("class_mean", "ood_scale", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise _range_error(name, getattr(self, name), "a finite number > 0")
        if self.num_test <= self.widths[1]:
            raise _range_error(
                "num_test", self.num_test, f"more than the {self.widths[1]} units of widths"
            )
        if not 0 <= self.flip_rate < 0.5:
            raise _range_error("flip_rate", self.flip_rate, "a number in [0, 0.5)")
        for name in ("self_distillation", "orthogonality"):
            strengths = getattr(self, name)
            if not strengths or not all(0 < strength < math.inf for strength in strengths):
                raise _range_error(name, strengths, "finite numbers > 0")
        if len(self.self_distillation) != len(self.orthogonality):
            raise _range_error(
                "orthogonality", self.orthogonality, f"{len(self.self_distillation)} strengths"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise _range_error("seeds", self.seeds, "different numbers >= 0")

    def settings(self) -> list[dict[str, Any]]:
        """The name of the objective and the strengths of its terms, a model each of a seed."""
        none = [0.0] * len(self.orthogonality)
        columns = {
            "baseline": [(0.0, 0.0)],
            "L_SD": zip(self.self_distillation, none, strict=True),
            "L_OC": zip(none, self.orthogonality, strict=True),
            "L_SD + L_OC": zip(self.self_distillation, self.orthogonality, strict=True),
        }
        return [
            {"objective": objective, "self_distillation": float(sd), "orthogonality": float(oc)}
            for objective, pairs in columns.items()
            for sd, oc in pairs
        ]


def _range_error(field: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{field}: got {value}, expected {expected}. Correct it.")


def run_theory(theory: Theory, path: pathlib.Path) -> dict[str, Any]:
    """The content of `results.json`: every model, the correlations, the config and the machine.

    Args:
        theory: The config.
        path: The workdir; finished seeds are kept, and `report.html` is written beside them.

    Raises:
        ConfigError: A field is out of range, or the folder holds another run.
        TrainingError: As `run_seed`.
    """
    start = time.monotonic()
    settings.check(theory)
    config = settings.to_dict(theory)
    with Workdir(path).opened() as workdir:
        workdir.check(config)
        workdir.claim(config)
        if not workdir.results.exists():
            number = len(theory.seeds)
            with progress.board().stage(theory.name, total=number, unit="seed") as stage:
                for seed in theory.seeds:
                    record = workdir.evaluation(theory.name, seed)
                    if not record.exists():
                        write_json(record, run_seed(theory, seed))
                        say(f"seed {seed}: {len(theory.settings())} models")
                    stage.advance()
            seeds = [
                read_json(workdir.evaluation(theory.name, seed), list) for seed in theory.seeds
            ]
            write_json(workdir.results, theory_results(seeds, config, start=start))
        # As written: a later look at a finished run keeps its date, machine and duration.
        # What an older version has written lacks the numbers of the page.
        recorded = read_json(workdir.results)
        results = with_theory_page(recorded)
        if results != recorded:
            write_json(workdir.results, results)
        write_theory_report(workdir.report, results)
    say(f"Report: {workdir.report}")
    return results


def run_seed(theory: Theory, seed: int) -> list[dict[str, Any]]:
    """A record a model of one seed: its objective and strengths, and what was measured.

    Raises:
        TrainingError: A network diverged, or its representation has a constant unit.
    """
    rng = np.random.default_rng(seed)
    draw = functools.partial(
        toy.draw, rng, dims=theory.dims, class_mean=theory.class_mean, flip_rate=theory.flip_rate
    )
    train, test = draw(theory.num_train), draw(theory.num_test)
    ood = toy.shift(test, theory.dims, class_mean=theory.class_mean, scale=theory.ood_scale)
    sizes = (sum(theory.dims), *theory.widths, 2)
    teacher_start, start = toy.init(rng, sizes), toy.init(rng, sizes)
    num_epochs = -(-theory.num_steps * theory.batch_size // theory.num_train)
    rows = np.concatenate([rng.permutation(theory.num_train) for _ in range(num_epochs)])
    batches = rows[: theory.num_steps * theory.batch_size].reshape(theory.num_steps, -1)
    fit = functools.partial(toy.fit, batches=batches, learning_rate=theory.learning_rate)

    alone = toy.Strengths(*np.zeros((2, 1), np.float32))
    teacher = fit(teacher_start, train, np.zeros((theory.num_train, 2), np.float32), alone)
    _, teacher_logits = toy.predict(teacher, train.inputs)
    models = theory.settings()
    columns = ([model[name] for model in models] for name in toy.Strengths._fields)
    strengths = toy.Strengths(*(np.array(column, np.float32) for column in columns))
    networks = fit(start, train, teacher_logits[0], strengths)
    features, logits = jax.device_get(toy.predict(networks, test.inputs))
    ood_logits = jax.device_get(toy.predict(networks, ood.inputs)[1])
    return [
        {"seed": seed, **model, **_measure(features[k], logits[k], ood_logits[k], test.labels)}
        for k, model in enumerate(models)
    ]


def _measure(
    features: Float[np.ndarray, "n d"],
    logits: Float[np.ndarray, "n c"],
    ood_logits: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
) -> dict[str, float]:
    """`sigma_min`, and accuracy, ECE (top label) and MSE on both test sets, fractions in [0, 1]."""
    is_finite = all(np.isfinite(x).all() for x in (features, logits, ood_logits))
    smallest = float(spectrum(features)[-1]) if is_finite else math.nan
    # What float32 features cannot tell from zero.
    if not smallest > np.finfo(np.float32).eps ** 2:
        raise TrainingError(
            f"sigma_min: got {smallest:.3g} after training, expected a number > 0. "
            "Lower learning_rate, or make the representation narrower."
        )
    record = {"sigma_min": smallest, "inverse_sigma_min": 1 / smallest}
    for domain, values in (("id", logits), ("ood", ood_logits)):
        probs = softmax(values)
        record[f"{domain}_accuracy"] = classification.accuracy(values, labels)
        record[f"{domain}_ece"] = calibration.expected_calibration_error(probs, labels)
        # Both classes are equally far from the label; the theorem counts one of them.
        record[f"{domain}_mse"] = classification.brier_score(probs, labels) / 2
    return record


def theory_results(
    seeds: Sequence[Sequence[dict[str, Any]]], config: dict[str, Any], *, start: float
) -> dict[str, Any]:
    """The content of `results.json`.

    The x-axis of the paper's figure 3 is the average of `1 / sigma_min` and the ID ECE; it does
    not say how two numbers of so different size are brought together. `mean` is their plain
    average, `mean_standardized` that of both with mean 0 and standard deviation 1 over all models.

    Args:
        seeds: The records of `run_seed`, for each seed.
        config: As a dictionary.
        start: When the command began, by `time.monotonic`.
    """
    columns = {
        name: np.array([[model[name] for model in models] for models in seeds]).T
        for name in ("inverse_sigma_min", "id_ece", *OUTCOMES)
    }
    parts = np.stack([columns["inverse_sigma_min"], columns["id_ece"]])
    columns["mean"] = parts.mean(axis=0)
    spread = parts.std(axis=(1, 2), keepdims=True)
    centred = parts - parts.mean(axis=(1, 2), keepdims=True)
    columns["mean_standardized"] = (centred / np.where(spread > 0, spread, 1.0)).mean(axis=0)
    return {
        "schema": SCHEMA,
        "name": config["name"],
        "title": config["title"],
        "calib_jax_version": __version__,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "environment": environment(time.monotonic() - start),
        "config": config,
        "correlations": [
            {"x": x, "y": y, **_correlations(columns[x], columns[y])}
            for x in QUANTITIES
            for y in OUTCOMES
        ],
        "models": [
            {
                **model,
                **{name: float(columns[name][k, s]) for name in ("mean", "mean_standardized")},
            }
            for s, models in enumerate(seeds)
            for k, model in enumerate(models)
        ],
    }


def _correlations(
    x: Float[np.ndarray, "settings seeds"], y: Float[np.ndarray, "settings seeds"]
) -> dict[str, dict[str, float]]:
    """Both kinds over all models, and Pearson's r of what is left without the seeds' means."""
    within = correlation(x - x.mean(axis=0), y - y.mean(axis=0), kind="pearson")
    found: dict[str, dict[str, float]] = {"pearson_within_seeds": within._asdict()}
    found.update((kind, correlation(x, y, kind=kind)._asdict()) for kind in KINDS)
    return found
