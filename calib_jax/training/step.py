"""The one train step: views -> terms -> gradients -> optax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from calib_jax.core.sharding import batched, replicated
from calib_jax.core.trees import trainable_mask
from calib_jax.core.types import Batch, Params
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.models.sharding_rules import state_shardings
from calib_jax.objectives.views import Start, Tables, Views
from calib_jax.optim.teacher import teacher_params
from calib_jax.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]
StepFunction = Callable[[TrainState, Batch, Tables], tuple[TrainState, Metrics]]


def loss_and_terms(views: Views, method: Method) -> tuple[Float[Array, ""], Metrics]:
    """The weighted sum of the terms, and each un-weighted term averaged over the batch."""
    weights = views.batch.mask.astype(jnp.float32)
    terms = {}
    for name, term in method.terms.items():
        value = term(views)
        if value.ndim == 1:
            value = jnp.sum(value * weights) / jnp.maximum(jnp.sum(weights), 1.0)
        terms[name] = value
    total = sum((method.terms[name].weight * value for name, value in terms.items()), jnp.zeros([]))
    return total, terms


def train_step(
    state: TrainState,
    batch: Batch,
    tables: Tables,
    start: Start | None = None,
    seed: int | Int[Array, ""] = 0,
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
            tables=tables,
            batch=batch,
            step=state.step,
            start=start,
            seed=seed,
        )
        return loss_and_terms(views, method)

    (loss, terms), gradients = jax.value_and_grad(loss_function, has_aux=True)(state.params)
    # Nothing else reads the gradients of frozen leaves, so the compiler does not compute them.
    trainable = jax.tree.leaves(trainable_mask(gradients, method.trainable))
    counted = [g for g, counts in zip(jax.tree.leaves(gradients), trainable, strict=True) if counts]
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": loss,
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
    shardings = state_shardings(state, mesh)
    step = jax.jit(
        partial(train_step, encoder=encoder, method=method, tx=tx),
        donate_argnums=0,
        in_shardings=(
            shardings,
            batched(mesh),
            replicated(mesh),
            state_shardings(start, mesh),
            replicated(mesh),
        ),
        out_shardings=(shardings, replicated(mesh)),
    )
    held = jax.device_put(start, state_shardings(start, mesh))
    # An argument, as the learning rate is: what one seed has compiled serves all.
    number = np.int32(seed)
    return lambda state, batch, tables: step(state, batch, tables, held, number)
