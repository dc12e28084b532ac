"""One device, eight with copies of the parameters, and eight that share them out: one training."""

import jax
import numpy as np
import pytest

from calib_jax.core.sharding import make_mesh, to_devices
from calib_jax.core.trees import leaf_names
from calib_jax.methods.robust import carot
from calib_jax.models.sharding_rules import state_shardings
from calib_jax.objectives.spectral import SmallestSingularValue
from calib_jax.optim.optimizers import make_optimizer
from calib_jax.optim.teacher import teacher_params
from calib_jax.training.state import create_state
from calib_jax.training.step import make_train_step

NUM_STEPS = 5


@pytest.fixture(scope="module")
def train(tiny_model, tiny_batches):
    """Returns a function: the losses and the last state of five steps of CaRot on a mesh."""
    encoder, encoder_params = tiny_model
    tables, batch_of = tiny_batches
    params = {"encoder": encoder_params, "classifier": {}}
    method = carot(update_every=2).scheduled(learning_rate=1e-3, warmup_steps=2)
    method.terms["smallest_singular_value"] = SmallestSingularValue(weight=0.5)
    # A key's bias has a gradient of zero, which AdamW turns from rounding into steps of up to the
    # learning rate: with this epsilon rounding stays rounding.
    method.optimizer.epsilon = 1e-3

    def run(mesh):
        tx = make_optimizer(
            method.optimizer,
            params,
            num_steps=NUM_STEPS,
            trainable=method.trainable,
            teacher=method.teacher,
        )
        state = create_state(params, tx, mesh)
        step_function = make_train_step(encoder, method, tx, mesh=mesh, state=state)
        rows = []
        for step in range(NUM_STEPS):
            state, metrics = step_function(state, to_devices(batch_of(step), mesh), tables)
            rows.append(jax.device_get(metrics))
        return rows, state

    return run


@pytest.fixture(scope="module")
def reference(train):
    return train(make_mesh(devices=jax.devices()[:1]))


@pytest.mark.parametrize("fsdp", [1, 4])
def test_same_training_on_eight_devices(train, reference, fsdp):
    mesh = make_mesh(fsdp=fsdp)
    rows, state = train(mesh)
    expected_rows, expected = reference
    # Sums over the batch and over sharded dimensions are taken in another order: each step adds a
    # few float32 roundings, amplified by logits of 14.
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert row.keys() == expected_row.keys()
        for name, value in row.items():
            np.testing.assert_allclose(value, expected_row[name], rtol=1e-5, atol=1e-5)
    for tree, expected_tree in (
        (state.params, expected.params),
        (teacher_params(state.opt_state), teacher_params(expected.opt_state)),
    ):
        for name, x, y in zip(
            leaf_names(tree), jax.tree.leaves(tree), jax.tree.leaves(expected_tree), strict=True
        ):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5, err_msg=name)
    assert_sharded_as_ruled(state, mesh)


def assert_sharded_as_ruled(state, mesh):
    fsdp = mesh.shape["fsdp"]
    ruled = jax.tree.leaves(state_shardings(state, mesh))
    for leaf, sharding in zip(jax.tree.leaves(state), ruled, strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    for tree in (state.params, teacher_params(state.opt_state)):
        kernel = tree["encoder"]["text"]["block_0"]["mlp"]["up"]["kernel"]
        assert kernel.shape == (16, 64)
        assert {s.data.shape for s in kernel.addressable_shards} == {(16, 64 // fsdp)}
    sizes = [
        sum(s.data.size for s in x.addressable_shards) / x.size for x in jax.tree.leaves(state)
    ]
    assert {round(8 / size) for size in sizes} == {1, fsdp}


def test_the_training_moved_student_and_teacher(tiny_model, reference):
    rows, state = reference
    assert [row["terms/self_distillation"] > 0 for row in rows] == [False] + [True] * 4
    before = tiny_model[1]
    for params in (state.params, teacher_params(state.opt_state)):
        moved = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), params["encoder"], before)
        assert max(jax.tree.leaves(moved)) > 1e-4
