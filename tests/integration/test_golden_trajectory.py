"""Six AdamW steps of the original model with the contrastive loss, by the real train step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from calib_jax.core.sharding import make_mesh
from calib_jax.core.types import Batch
from calib_jax.methods.robust import flyp
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights import openai, table
from calib_jax.models.weights.load import read_model
from calib_jax.objectives.views import Tables
from calib_jax.optim.optimizers import make_optimizer
from calib_jax.training.state import create_state
from calib_jax.training.step import make_train_step


def stored(config, params):
    """The tensors in the naming of the golden files."""
    return table.store(config, params, openai.rows(config))


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "flyp_trajectory.npz")


@pytest.fixture(scope="module")
def trajectory(golden_dir, golden):
    """Losses, learning rates, final weights and first gradient, the last two by OpenAI's names."""
    model = read_model(str(golden_dir / "flyp_trajectory_init.safetensors"))
    config, params = model.config, model.params
    params = {"encoder": params, "classifier": {}}
    num_steps, num_examples, length = golden["tokens"].shape
    method = flyp().scheduled(
        learning_rate=float(golden["lr"]), warmup_steps=int(golden["warmup_steps"])
    )
    assert method.optimizer.weight_decay == float(golden["weight_decay"])
    mesh = make_mesh(devices=jax.devices()[:1])
    tx = make_optimizer(
        method.optimizer, params, num_steps=num_steps, trainable=method.trainable, teacher=None
    )
    state = create_state(params, tx, mesh)
    step_function = make_train_step(Encoder(config), method, tx, mesh=mesh, state=state)
    captions = jnp.asarray(golden["tokens"].reshape(-1, length), jnp.int32)
    tables = Tables(captions=captions, class_tokens=captions[None, :1])
    losses, rates, first_gradient = [], [], None
    for step, images in enumerate(golden["images_uint8"]):
        batch = Batch(
            image=images,
            label=np.zeros(num_examples, np.int32),
            caption=np.arange(num_examples, dtype=np.int32) + step * num_examples,
            mask=np.ones(num_examples, bool),
        )
        state, metrics = step_function(state, batch, tables)
        losses.append(float(metrics["loss"]))
        rates.append(float(metrics["learning_rate"]))
        if step == 0:  # the first moment is (1 - b1) times the gradient
            moment = optax.tree.get(state.opt_state, "mu")["encoder"]
            first_gradient = stored(config, jax.tree.map(lambda m: np.asarray(m) / 0.1, moment))
    return losses, rates, stored(config, state.params["encoder"]), first_gradient


def test_losses(golden, trajectory):
    np.testing.assert_allclose(trajectory[0], golden["losses"], rtol=1e-5)


def test_learning_rates(golden, trajectory):
    np.testing.assert_allclose(trajectory[1], golden["learning_rates"], rtol=1e-6)


def is_determined(name, gradient):
    """Where float32 determines the direction of AdamW's first step, which is lr * sign(gradient).

    Elsewhere the gradient is rounding: below the resolution of the tensor's largest (in float64,
    `token_embedding.weight[43, 6]` has -5e-8 of 2.5), or mathematically zero (the keys' biases).
    Zero itself is exact: a token that does not occur.
    """
    size = np.abs(gradient)
    determined = (size == 0) | (size > 2 * np.finfo(np.float32).eps * size.max())
    if name.endswith("in_proj_bias"):
        third = len(gradient) // 3
        determined[third : 2 * third] = False
    return determined


def test_final_weights(golden_dir, trajectory):
    _, _, weights, first_gradient = trajectory
    golden = safetensors.numpy.load_file(golden_dir / "flyp_trajectory_final.safetensors")
    assert weights.keys() == golden.keys()
    num_excused = 0
    for name, expected in golden.items():
        determined = is_determined(name, first_gradient[name])
        if not name.endswith("in_proj_bias"):
            num_excused += np.sum(~determined)
        np.testing.assert_allclose(
            weights[name][determined], expected[determined], rtol=0, atol=1e-4, err_msg=name
        )
    assert num_excused < 10  # of 150,000
