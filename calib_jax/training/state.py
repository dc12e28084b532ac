"""The state of a training: everything that changes, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    parameters must outlive it. No program of the whole: compiling one would cost
    every method more than small copies do.
    """
    shardings = state_shardings(params, mesh)
    # Twice: the first may keep the part of its own device, whatever it is told.
    own = jax.device_put(jax.device_put(params, shardings), shardings, may_alias=False)
    # Zeros made like them are sharded like them from the start.
    state = TrainState(step=np.int32(0), params=own, opt_state=tx.init(own))
    return jax.device_put(state, state_shardings(state, mesh))


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
