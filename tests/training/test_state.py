import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from calib_jax.core.sharding import make_mesh
from calib_jax.core.trees import leaf_names
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import EmaTeacher, teacher_params
from calib_jax.training.state import TrainState, abstract_state, create_state


@pytest.fixture(scope="module")
def params(tiny_model):
    return {"encoder": tiny_model[1], "classifier": {"kernel": jnp.ones((8, 3))}}


@pytest.fixture(scope="module")
def tx(params):
    return make_optimizer(
        AdamW(), params, num_steps=1000, trainable=(".*",), teacher=EmaTeacher(update_every=1)
    )


@pytest.mark.parametrize("fsdp", [1, 4])
def test_the_state_before_the_first_update(params, tx, fsdp):
    mesh = make_mesh(fsdp=fsdp)
    state, abstract = create_state(params, tx, mesh), abstract_state(params, tx, mesh)
    assert int(state.step) == 0
    for tree in (state.params, teacher_params(state.opt_state)):
        jax.tree.map(np.testing.assert_array_equal, tree, params)
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for leaf, shape in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
        assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)


def test_moments_and_teacher_are_sharded_like_their_parameters(params, tx):
    state = abstract_state(params, tx, make_mesh(fsdp=4))
    specs = dict(
        zip(leaf_names(state), (x.sharding.spec for x in jax.tree.leaves(state)), strict=True)
    )
    ends = "encoder/image/block_0/mlp/up/kernel", "encoder/text/token_embedding"
    for end, spec in zip(ends, (PartitionSpec(None, "fsdp"), PartitionSpec("fsdp")), strict=True):
        found = {name: s for name, s in specs.items() if name.endswith(end)}
        assert len(found) == 4  # the parameter, its two moments, the teacher
        for name, s in found.items():
            assert tuple(s)[: len(spec)] == tuple(spec), name


@pytest.mark.parametrize("num_devices", [1, 8])
def test_the_given_params_outlive_donation(params, tx, num_devices):
    before = jax.tree.map(np.array, params)
    state = create_state(params, tx, make_mesh(devices=jax.devices()[:num_devices]))

    def step(state):
        gradients = jax.tree.map(jnp.ones_like, state.params)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        moved = optax.apply_updates(state.params, updates)
        return TrainState(step=state.step + 1, params=moved, opt_state=opt_state)

    step = jax.jit(step, donate_argnums=0)
    for _ in range(3):
        first, state = state, step(state)
        assert first.params["classifier"]["kernel"].is_deleted()
    assert int(state.step) == 3
    assert np.all(state.params["classifier"]["kernel"] != 1.0)
    jax.tree.map(np.testing.assert_array_equal, params, before)
