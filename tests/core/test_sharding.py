"""Meshes, the rule table on a full-size training state, and the errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from calib_jax.core import sharding
from calib_jax.core.errors import ConfigError
from calib_jax.core.trees import path_name
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
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


def test_mesh_spans_all_devices_with_automatic_axes():
    mesh = sharding.make_mesh(fsdp=2)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2}
    assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)
    assert dict(sharding.make_mesh().shape) == {"data": 8, "fsdp": 1}
    assert sharding.make_mesh(devices=jax.devices()[:1]).size == 1


@pytest.mark.parametrize("fsdp", [0, -1, 3, 16])
def test_mesh_of_the_wrong_size(fsdp):
    message = rf"fsdp: got {fsdp}, expected a divisor of the 8 devices. Set fsdp=1"
    with pytest.raises(ConfigError, match=message):
        sharding.make_mesh(fsdp=fsdp)


def test_batches_are_split_over_both_axes_and_the_rest_replicated():
    mesh = sharding.make_mesh(fsdp=2)
    batch = jax.device_put(np.arange(16), sharding.batched(mesh))
    assert [shard.data.tolist() for shard in batch.addressable_shards] == [
        [2 * i, 2 * i + 1] for i in range(8)
    ]
    whole = jax.device_put(np.arange(16), sharding.replicated(mesh))
    assert {shard.data.shape for shard in whole.addressable_shards} == {(16,)}


@pytest.mark.parametrize("batch_size", [8, 64])
def test_a_batch_that_fits_passes(batch_size):
    sharding.check_batch_size(batch_size, sharding.make_mesh(), field="training.batch_size")


@pytest.mark.parametrize(("batch_size", "fit"), [(0, 8), (-4, 8), (3, 8), (13, 16), (100, 96)])
def test_a_batch_that_does_not_fit(batch_size, fit):
    message = (
        rf"training.batch_size: got {batch_size}, expected a positive multiple of the 8 devices. "
        rf"Set training.batch_size={fit}\."
    )
    with pytest.raises(ConfigError, match=message):
        sharding.check_batch_size(batch_size, sharding.make_mesh(), field="training.batch_size")


@pytest.mark.parametrize("preset", [presets.vit_l14, presets.rn50])
def test_every_matrix_of_a_full_size_state_is_sharded(preset):
    """Parameters, both moments of AdamW and the teacher; vectors and positions are replicated."""
    state = abstract(preset(), sharding.make_mesh(fsdp=8))
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
    state = abstract(presets.tiny(vocab_size=32, context_length=16), sharding.make_mesh())
    assert all(leaf.sharding.shard_shape(leaf.shape) == leaf.shape for leaf in state.values())


def test_a_dimension_that_does_not_divide_is_replicated():
    tree = {
        "a": {"kernel": jax.ShapeDtypeStruct((6, 12), jnp.float32)},
        "b": {"kernel": jax.ShapeDtypeStruct((6, 16), jnp.float32)},
    }
    shardings = sharding.state_shardings(tree, sharding.make_mesh(fsdp=8))
    assert shardings["a"]["kernel"].spec == P(None, None)
    assert shardings["b"]["kernel"].spec == P(None, "fsdp")


def test_the_structure_of_the_state_is_kept():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class State:
        step: jax.Array
        params: dict

    state = State(step=jnp.zeros([]), params={"kernel": jnp.zeros((2, 8))})
    shardings = sharding.state_shardings(state, sharding.make_mesh(fsdp=8))
    assert isinstance(shardings, State)
    assert isinstance(shardings.step, NamedSharding)
    placed = jax.device_put(state, shardings)
    assert placed.params["kernel"].addressable_shards[0].data.shape == (2, 1)


def test_the_first_rule_that_matches_counts():
    tree = {"kernel": jnp.zeros((8, 8))}
    rules = (("kernel", ("fsdp", None)), (".*", (None, "fsdp")))
    shardings = sharding.state_shardings(tree, sharding.make_mesh(fsdp=8), rules)
    assert shardings["kernel"].spec == P("fsdp", None)


def test_a_rule_with_too_many_axes_is_named():
    message = r"rule '\.\*': got 2 axes for 'bias' of shape \(8,\)\. Make the rule more specific"
    with pytest.raises(ConfigError, match=message):
        sharding.state_shardings(
            {"bias": jnp.zeros(8)}, sharding.make_mesh(), ((".*", (None, "fsdp")),)
        )


def test_a_leaf_without_a_rule_is_named():
    with pytest.raises(ConfigError, match=r"no rule matches 'bias'\. Add \('\.\*', \(\)\)"):
        sharding.state_shardings({"bias": jnp.zeros(8)}, sharding.make_mesh(), (("x", ()),))
