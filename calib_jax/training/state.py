"""The state of a training: everything that changes, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from calib_jax.core.types import Params
from calib_jax.models.sharding_rules import state_shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A point of a training run, or the tree of its shapes or shardings: hence no array types.

    Attributes:
        step: The number of updates applied so far, `Int32[]`.
        params: `{"encoder": ..., "classifier": ...}`.
        opt_state: The optax state; an EMA teacher is the state of its last transform.
    """

    step: Any
    params: Any
    opt_state: Any


def create_state(params: Params, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state before the first update, sharded over the mesh.

    The arrays are copies: the train step donates them, and the pre-trained
    parameters must outlive it.
    """

    def create(params: Params) -> TrainState:
        own = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
        return TrainState(step=jnp.zeros([], jnp.int32), params=own, opt_state=tx.init(own))

    shardings = state_shardings(jax.eval_shape(create, params), mesh)
    return jax.jit(create, out_shardings=shardings)(params)


def abstract_state(params: Params, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state: the target of a restore."""

    def create(params: Params) -> TrainState:
        return TrainState(step=jnp.zeros([], jnp.int32), params=params, opt_state=tx.init(params))

    shapes = jax.eval_shape(create, params)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(shapes, mesh),
    )
