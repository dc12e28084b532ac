"""The one train step: views -> terms -> gradients -> optax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from calib_jax.core.sharding import batched, replicated
from calib_jax.core.trees import trainable_mask
from calib_jax.core.types import Batch, Params
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.models.sharding_rules import state_shardings
from calib_jax.objectives.views import Start, Tables, Views
from calib_jax.optim.optimizers import schedule_of
from calib_jax.optim.teacher import teacher_params
from calib_jax.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]
StepFunction = Callable[[TrainState, Batch, Tables], tuple[TrainState, Metrics]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constants:
    """What stays the same over a training, or the shardings of it.

    Arguments of the step, so that one compiled program serves all of their values.

    Attributes:
        tables: Tokenised texts.
        start: What the training started from, where a term needs it.
        seed: Of the terms' random numbers.
        weights: Of the terms, by their names.
    """

    tables: Any
    start: Any
    seed: Any
    weights: Any


def loss_and_terms(
    views: Views, method: Method, weights: Mapping[str, Any] | None = None
) -> tuple[Float[Array, ""], Metrics]:
    """The weighted sum of the terms, and each un-weighted term averaged over the batch.

    Args:
        views: What the terms look at.
        method: Has the terms.
        weights: Of the terms, instead of their own.
    """
    counts = views.batch.mask.astype(jnp.float32)
    terms = {}
    total = jnp.zeros([])
    for name, term in method.terms.items():
        value = term(views)
        if value.ndim == 1:
            value = jnp.sum(value * counts) / jnp.maximum(jnp.sum(counts), 1.0)
        terms[name] = value
        total += (weights[name] if weights else term.weight) * value
    return total, terms


def train_step(
    state: TrainState,
    batch: Batch,
    constants: Constants,
    *,
    encoder: Encoder,
    method: Method,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """The state after one update, and what the loss was before it."""

    def loss_function(params: Params) -> tuple[Float[Array, ""], Metrics]:
        views = Views(
            encoder=encoder,
            classifier=method.classifier,
            params=params,
            teacher_params=teacher_params(state.opt_state),
            tables=constants.tables,
            batch=batch,
            step=state.step,
            start=constants.start,
            seed=constants.seed,
        )
        return loss_and_terms(views, method, constants.weights)

    (loss, terms), gradients = jax.value_and_grad(loss_function, has_aux=True)(state.params)
    # Nothing else reads the gradients of frozen leaves, so the compiler does not compute them.
    trainable = jax.tree.leaves(trainable_mask(gradients, method.trainable))
    counted = [g for g, counts in zip(jax.tree.leaves(gradients), trainable, strict=True) if counts]
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": loss,
        "learning_rate": schedule_of(state.opt_state).learning_rate(),
        "gradient_norm": optax.tree.norm(counted),
        # Of the new parameters: a checkpoint is written before any loss has seen them.
        "parameter_norm": optax.tree.norm(params),
        "logit_scale": encoder.logit_scale(state.params["encoder"]),
        **{f"terms/{name}": value for name, value in terms.items()},
    }
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def make_train_step(
    encoder: Encoder,
    method: Method,
    tx: optax.GradientTransformation,
    *,
    mesh: Mesh,
    state: TrainState,
    start: Start | None = None,
    seed: int = 0,
) -> StepFunction:
    """`train_step`, jitted over the mesh: batch split, state as the rules say, state donated.

    Args:
        encoder: The towers.
        method: What is minimised.
        tx: The optimizer chain.
        mesh: All devices.
        state: A state or its shapes.
        start: What the training started from, where a term needs it; sharded as the state is.
        seed: Of the terms' random numbers.
    """
    shardings, everywhere = state_shardings(state, mesh), replicated(mesh)
    of_start = state_shardings(start, mesh)
    step = jax.jit(
        partial(train_step, encoder=encoder, method=method, tx=tx),
        donate_argnums=0,
        in_shardings=(
            shardings,
            batched(mesh),
            Constants(tables=everywhere, start=of_start, seed=everywhere, weights=everywhere),
        ),
        out_shardings=(shardings, everywhere),
    )
    held, number = jax.device_put(start, of_start), np.int32(seed)
    weights = {name: np.float32(term.weight) for name, term in method.terms.items()}
    return lambda state, batch, tables: step(state, batch, Constants(tables, held, number, weights))
