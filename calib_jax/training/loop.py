"""The loop around the train step: resume, log, stop on NaN, checkpoint."""

import contextlib
import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from calib_jax.core import rngs
from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.core.sharding import batched, check_batch_size
from calib_jax.core.types import Batch, Params
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Start, Tables, context_embeddings
from calib_jax.optim.teacher import teacher_params
from calib_jax.training.checkpoints import Checkpoints
from calib_jax.training.history import History
from calib_jax.training.state import TrainState, abstract_state, create_state
from calib_jax.training.step import Metrics, make_train_step


@dataclasses.dataclass(kw_only=True)
class Training:
    """How long and in what portions.

    Attributes:
        num_steps: Updates in all.
        batch_size: Over all devices and processes; the contrastive terms see the whole of it.
        log_every: Steps between two rows of `metrics.jsonl`.
        checkpoint_every: Steps between two checkpoints; there is one after the last step anyhow.
    """

    num_steps: int = 25_030
    batch_size: int = 512
    log_every: int = 50
    checkpoint_every: int = 1000

    def validate(self, mesh: Mesh, *, field: str) -> None:
        """Raises a ConfigError for counts out of range or a batch that the devices cannot share."""
        for name, low in (("num_steps", 0), ("log_every", 1), ("checkpoint_every", 1)):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{field}.{name}: got {getattr(self, name)}, expected at least {low}. "
                    "Correct it."
                )
        check_batch_size(self.batch_size, mesh, field=f"{field}.batch_size")


@runtime_checkable
class BatchIterator(Protocol):
    """An endless iterator whose position can be saved."""

    def __next__(self) -> Batch:
        """The next batch of this process."""

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position."""


@dataclasses.dataclass(frozen=True)
class Logbook:
    """Where one training keeps its files.

    Attributes:
        name: The phase, in the history and on the progress bar.
        seed: For the history.
        directory: Of the checkpoints.
        config: Of the run, for the checkpoints.
        history: Gets a row every `log_every` steps.
    """

    name: str
    seed: int
    directory: pathlib.Path
    config: Mapping[str, Any]
    history: History

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row; scalars of any kind become floats."""
        values = {
            key: value if isinstance(value, (int, dict)) else float(value)
            for key, value in row.items()
        }
        self.history.append({"phase": self.name, "seed": self.seed, **values})

    def rewind(self, step: int) -> None:
        """Drops the rows after a step, which is about to be trained again."""
        self.history.rewind(self.name, self.seed, step)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained method.

    Attributes:
        start: The parameters that the training started from, or, after a warm start, those that
            the warm start's started from.
        params: What it ended with.
        teacher: The EMA teacher's parameters at the end, or None where the method has none.
        num_steps: Updates in all.
        train_seconds: What the training took (this time, if it resumed).
        chosen: What was chosen on the validation split, where something was.
    """

    start: Params
    params: Params
    teacher: Params | None = None
    num_steps: int = 0
    train_seconds: float = 0.0
    chosen: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def initial_params(
    method: Method, encoder: Encoder, encoder_params: Params, tables: Tables, seed: int
) -> Params:
    """The parameters that a method starts from."""
    key = rngs.key(seed, 0, "classifier")
    classifier = method.classifier.init(key, encoder, encoder_params, tables.class_tokens)
    return {"encoder": encoder_params, "classifier": classifier}


def held_start(method: Method, encoder: Encoder, params: Params, tables: Tables) -> Start | None:
    """What the terms of a method need to know of the model that its training starts from."""
    needs = method.needs()
    if not needs & {"pretrained", "contexts"}:
        return None
    if "contexts" not in needs:
        return Start(params)
    return Start(params, context_embeddings(encoder, params["encoder"], tables.class_tokens))


def to_devices(batch: Batch, mesh: Mesh) -> Batch:
    """The global batch, made of every process's share."""
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(batched(mesh), np.asarray(leaf)), batch
    )


def fit(
    method: Method,
    encoder: Encoder,
    params: Params,
    tables: Tables,
    *,
    training: Training,
    mesh: Mesh,
    logbook: Logbook,
    make_batches: Callable[[], BatchIterator],
    probe: Callable[[Params], Mapping[str, float]],
    origin: Params | None = None,
) -> Fitted:
    """The method's parameters after `training.num_steps` updates.

    Goes on from the logbook's newest checkpoint; after the last step it reads no data.

    Args:
        method: What is minimised; without terms, `params` come back as they are.
        encoder: The towers.
        params: Where the training starts; they stay usable.
        tables: Tokenised texts.
        training: Lengths.
        mesh: All devices.
        logbook: Where the training keeps its checkpoints and its history.
        make_batches: Opens the data.
        probe: Further numbers for the history, from the present parameters.
        origin: What the terms take for the start model, where it is not `params`.

    Raises:
        TrainingError: The loss or the gradient is not finite; the last good checkpoint stays.
        CheckpointError: The newest checkpoint is damaged.
    """
    if not method.terms:
        return Fitted(start=params, params=params)
    tx = method.make_tx(params, num_steps=training.num_steps)
    start = time.monotonic()
    with contextlib.closing(Checkpoints(logbook.directory, config=logbook.config)) as checkpoints:
        state, position = _start(checkpoints, params, tx, mesh, logbook)
        if int(state.step) < training.num_steps:
            held = held_start(method, encoder, origin or params, tables)
            step = make_train_step(
                encoder, method, tx, mesh=mesh, state=state, start=held, seed=logbook.seed
            )
            log = _logger(logbook, method.adamw().schedule(training.num_steps), probe)
            state = _train(
                state,
                _opened(make_batches, position),
                lambda state, batch: step(state, batch, tables),
                name=logbook.name,
                training=training,
                mesh=mesh,
                checkpoints=checkpoints,
                log=log,
            )
    teacher = teacher_params(state.opt_state)
    kept = teacher if method.keeps == "teacher" else state.params
    return Fitted(params, kept, teacher, training.num_steps, time.monotonic() - start)


def _logger(
    logbook: Logbook,
    schedule: Callable[[int], Any],
    probe: Callable[[Params], Mapping[str, float]],
) -> Callable[[dict[str, Any], Params], None]:
    def log(row: dict[str, Any], params: Params) -> None:
        logbook.write({**row, "learning_rate": schedule(row["step"] - 1), **probe(params)})

    return log


def _opened(
    make_batches: Callable[[], BatchIterator], position: dict[str, Any] | None
) -> BatchIterator:
    batches = make_batches()
    if position is not None:
        batches.set_state(position)
    return batches


def _start(
    checkpoints: Checkpoints, params: Params, tx: Any, mesh: Mesh, logbook: Logbook
) -> tuple[TrainState, dict[str, Any] | None]:
    """The newest state and position, or the first; the history ends where they do."""
    latest = checkpoints.latest_step()
    found: tuple[TrainState, dict[str, Any] | None] = (
        (create_state(params, tx, mesh), None)
        if latest is None
        else checkpoints.restore(latest, abstract_state(params, tx, mesh))
    )
    logbook.rewind(latest or 0)
    return found


def _train(
    state: TrainState,
    batches: BatchIterator,
    step_function: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    *,
    name: str,
    training: Training,
    mesh: Mesh,
    checkpoints: Checkpoints,
    log: Callable[[dict[str, Any], Params], None],
) -> TrainState:
    first, last = int(state.step), training.num_steps
    pending: list[Metrics] = []
    since = time.monotonic()
    with tqdm(total=last, initial=first, desc=name, unit="step", mininterval=0.5) as bar:
        for step in range(first + 1, last + 1):
            state, metrics = step_function(state, to_devices(next(batches), mesh))
            pending.append(metrics)
            is_due = step % training.checkpoint_every == 0 or step == last
            if is_due or step % training.log_every == 0:
                # Metrics are fetched here and not every step: the device never waits for the host,
                # and no checkpoint is written before all its steps are known to be finite.
                row = _summary(jax.device_get(pending), step, name)
                elapsed = time.monotonic() - since
                row["examples_per_second"] = len(pending) * training.batch_size / elapsed
                bar.update(len(pending))
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                log(row, state.params)
                pending, since = [], time.monotonic()
            if is_due:
                checkpoints.save(step, state, batches.get_state())
    return state


def _summary(pending: list[Mapping[str, np.ndarray]], step: int, name: str) -> dict[str, Any]:
    """The means over the steps since the last row, after a look at each for NaN and infinity."""
    for number, metrics in enumerate(pending, start=step - len(pending) + 1):
        for key in ("loss", "gradient_norm", "parameter_norm"):
            if not math.isfinite(metrics[key]):
                terms = {k: float(v) for k, v in metrics.items() if k.startswith("terms/")}
                raise TrainingError(
                    f"{name}: {key} is {float(metrics[key])} at step {number} "
                    f"({', '.join(f'{k}={v:.4g}' for k, v in terms.items())}). The last good "
                    "checkpoint is kept. Lower the learning rate, or look at the data."
                )
    means = {key: float(np.mean([m[key] for m in pending])) for key in pending[0]}
    terms = {k.removeprefix("terms/"): v for k, v in means.items() if k.startswith("terms/")}
    rest = {k: v for k, v in means.items() if not k.startswith("terms/")}
    return {"step": step, **rest, "terms": terms}
