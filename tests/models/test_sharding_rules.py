"""The rule table on a full-size training state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from calib_jax.core.sharding import make_mesh
from calib_jax.core.trees import path_name
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
from calib_jax.models.sharding_rules import state_shardings
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import EmaTeacher
from calib_jax.training.state import abstract_state


def leaves(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def abstract(config, mesh):
    """The sharded shapes of a state with AdamW and a teacher."""
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    params = {"encoder": shapes, "classifier": {}}
    tx = make_optimizer(AdamW(), params, num_steps=1000, trainable=(".*",), teacher=EmaTeacher())
    return leaves(abstract_state(params, tx, mesh))


@pytest.mark.parametrize("preset", [presets.vit_l14, presets.rn50])
def test_every_matrix_of_a_full_size_state_is_sharded(preset):
    """Parameters, both moments of AdamW and the teacher; vectors and positions are replicated."""
    state = abstract(preset(), make_mesh(fsdp=8))
    sharded = {name for name, leaf in state.items() if "fsdp" in leaf.sharding.spec}
    for name, leaf in state.items():
        is_matrix = name.endswith(("kernel", "token_embedding"))
        assert (name in sharded) == is_matrix, name
        if is_matrix:
            if len(leaf.shape) == 4:  # the output channels
                assert leaf.sharding.spec == P(None, None, None, "fsdp"), name
            part = leaf.sharding.shard_shape(leaf.shape)
            assert np.prod(part) * 8 == np.prod(leaf.shape), name
    for part in (
        "params/",
        "opt_state/2/inner_state/0/mu/",
        "opt_state/2/inner_state/0/nu/",
        "opt_state/4/params/",
    ):
        first = "conv_1" if preset is presets.rn50 else "patch"
        assert f"{part}encoder/image/{first}/kernel" in sharded
        assert f"{part}encoder/text/token_embedding" in sharded
    total = sum(leaf.size for leaf in state.values())
    assert sum(state[name].size for name in sharded) > 0.99 * total


def test_without_an_fsdp_axis_every_device_holds_everything():
    state = abstract(presets.tiny(vocab_size=32, context_length=16), make_mesh())
    assert all(leaf.sharding.shard_shape(leaf.shape) == leaf.shape for leaf in state.values())


def test_a_dimension_that_does_not_divide_is_replicated():
    tree = {
        "a": {"kernel": jax.ShapeDtypeStruct((6, 12), jnp.float32)},
        "b": {"kernel": jax.ShapeDtypeStruct((6, 16), jnp.float32)},
    }
    found = state_shardings(tree, make_mesh(fsdp=8))
    assert found["a"]["kernel"].spec == P(None, None)
    assert found["b"]["kernel"].spec == P(None, "fsdp")


def test_the_structure_of_the_state_is_kept():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class State:
        step: jax.Array
        params: dict

    state = State(step=jnp.zeros([]), params={"kernel": jnp.zeros((2, 8))})
    found = state_shardings(state, make_mesh(fsdp=8))
    assert isinstance(found, State)
    assert isinstance(found.step, NamedSharding)
    placed = jax.device_put(state, found)
    assert placed.params["kernel"].addressable_shards[0].data.shape == (2, 1)
