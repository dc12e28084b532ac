"""Where a training starts: the first parameters, what the terms hold on to, the first state."""

from __future__ import annotations

from typing import Any

import optax
from jax.sharding import Mesh

from calib_jax.core import rngs
from calib_jax.core.types import Params
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Start, Tables, context_embeddings
from calib_jax.training.checkpoints import Checkpoints
from calib_jax.training.state import TrainState, abstract_state, create_state


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


def starting_state(
    checkpoints: Checkpoints, params: Params, tx: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, dict[str, Any] | None]:
    """The newest checkpoint's state and position in the data, or the first state and None.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    latest = checkpoints.latest_step()
    if latest is None:
        return create_state(params, tx, mesh), None
    return checkpoints.restore(latest, abstract_state(params, tx, mesh))
