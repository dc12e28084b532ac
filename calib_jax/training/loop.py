"""The loop around the train step: resume, log, stop on NaN, checkpoint."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh

from calib_jax.core import signals
from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import check_batch_size, to_devices
from calib_jax.core.types import Batch, Params
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Tables
from calib_jax.optim.teacher import teacher_params
from calib_jax.training.checkpoints import Checkpoints
from calib_jax.training.logbook import Logbook, probed
from calib_jax.training.start import held_start, starting_state
from calib_jax.training.state import TrainState
from calib_jax.training.step import Metrics, make_train_step
from calib_jax.training.unreported import AHEAD, Unreported


@dataclasses.dataclass(kw_only=True)
class Training:
    """How long and in what portions.

    Attributes:
        num_steps: Updates in all; 0 where nothing is trained.
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
            if not low <= getattr(self, name) < 2**31:  # the step is an int32
                raise ConfigError(
                    f"{field}.{name}: got {getattr(self, name)}, expected at least {low} and less "
                    "than 2^31. Correct it."
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

    Goes on from the logbook's newest checkpoint; after the last step it reads no data. A command's
    signal ends it after the step with a checkpoint (`core.signals.Stopped`).

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
    began = time.monotonic()
    with contextlib.closing(Checkpoints(logbook.directory, config=logbook.config)) as checkpoints:
        state, position = starting_state(checkpoints, params, tx, mesh)
        logbook.rewind(int(state.step))
        if int(state.step) < training.num_steps:
            held = held_start(method, encoder, origin or params, tables)
            step = make_train_step(
                encoder, method, tx, mesh=mesh, state=state, start=held, seed=logbook.seed
            )
            batches = make_batches()
            unreported = Unreported(logbook.name, training.batch_size, position)
            if position is not None:
                batches.set_state(position)
            state = _train(
                state,
                batches,
                lambda state, batch: step(state, to_devices(batch, mesh), tables),
                training=training,
                checkpoints=checkpoints,
                logbook=logbook,
                probe=probe,
                unreported=unreported,
            )
    teacher = teacher_params(state.opt_state)
    kept = teacher if method.keeps == "teacher" else state.params
    return Fitted(params, kept, teacher, training.num_steps, time.monotonic() - began)


def _train(
    state: TrainState,
    batches: BatchIterator,
    step_function: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    *,
    training: Training,
    checkpoints: Checkpoints,
    logbook: Logbook,
    probe: Callable[[Params], Mapping[str, float]],
    unreported: Unreported,
) -> TrainState:
    """The state after the last step; a signal ends it after the present one, once that is saved."""
    first, last = int(state.step), training.num_steps
    with signals.held() as is_stopping, logbook.stage(first, last) as stage:
        for step in range(first + 1, last + 1):
            state, metrics = step_function(state, next(batches))
            stage.reach(step - AHEAD, **unreported.append(metrics))
            is_due = step % training.checkpoint_every == 0 or step == last
            if is_due or step % training.log_every == 0:
                # Metrics are fetched here and not every step: the device never waits for the host,
                # and no checkpoint is written before all its steps are known to be finite.
                row = unreported.row(step)
                stage.reach(step, loss=row["loss"])
                logbook.write({**row, **probed(probe, state.params, step, logbook.name)})
                unreported.restart_clock()
            stops = is_stopping()  # asked once: a signal may come between two questions
            if is_due or stops:
                checkpoints.save(step, state, batches.get_state() | unreported.kept(step))
            if stops:
                stage.reach(step, loss=metrics["loss"])
                break
        checkpoints.wait()
    return state
