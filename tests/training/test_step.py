import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.core import rngs
from calib_jax.core.sharding import make_mesh
from calib_jax.core.trees import is_statistic, leaf_names
from calib_jax.core.types import Batch
from calib_jax.methods.method import Method
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.spectral import OrthogonalProjection
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.training.state import create_state
from calib_jax.training.step import Constants, loss_and_terms, make_train_step


@dataclasses.dataclass(kw_only=True)
class Labels(Term):
    """The label of each example, which needs no model."""

    def __call__(self, views):
        return views.batch.label.astype(jnp.float32)


@dataclasses.dataclass(kw_only=True)
class Seven(Term):
    def __call__(self, views):
        return jnp.float32(7)


@pytest.mark.parametrize(
    ("mask", "mean"), [([1, 1, 1, 1], 3.5), ([1, 0, 1, 0], 3.0), ([0, 0, 0, 0], 0.0)]
)
def test_terms_are_averaged_over_the_mask_and_weighted(tiny_model, tiny_batches, mask, mean):
    batch = dataclasses.replace(
        jax.tree.map(jnp.asarray, tiny_batches[1](0, 4)),
        label=jnp.array([2, 3, 4, 5]),
        mask=jnp.array(mask, bool),
    )
    views = Views(
        encoder=tiny_model[0],
        classifier=LinearHead(),
        params={},
        teacher_params=None,
        tables=tiny_batches[0],
        batch=batch,
        step=jnp.int32(0),
    )
    method = Method(terms={"labels": Labels(weight=0.5), "seven": Seven(weight=-2.0)})
    loss, terms = loss_and_terms(views, method)
    assert terms == {"labels": mean, "seven": 7.0}
    assert float(loss) == 0.5 * mean - 14.0


@dataclasses.dataclass
class Trainer:
    """A compiled step and what makes its first state."""

    method: Method
    params: dict
    tx: object
    mesh: object
    step_function: object

    def step(self, batch, tables, params=None):
        params = self.params if params is None else params
        return self.step_function(create_state(params, self.tx, self.mesh), batch, tables)


@pytest.fixture(scope="module")
def trainer(tiny_model, tiny_batches):
    encoder, encoder_params = tiny_model
    method = Method(
        classifier=LinearHead(),
        terms={
            "cross_entropy": CrossEntropy(weight=2.0),
            "orthogonality": OrthogonalProjection(weight=0.5),
        },
        trainable=("encoder/image/", "classifier/"),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=1),
    )
    head = LinearHead().init(
        jax.random.key(0), encoder, encoder_params, tiny_batches[0].class_tokens
    )
    params = {"encoder": encoder_params, "classifier": head}
    mesh = make_mesh(devices=jax.devices()[:1])
    tx = make_optimizer(
        method.optimizer, params, num_steps=9, trainable=method.trainable, teacher=None
    )
    state = create_state(params, tx, mesh)
    step_function = make_train_step(encoder, method, tx, mesh=mesh, state=state)
    return Trainer(method, params, tx, mesh, step_function)


def test_metrics_and_the_new_state(trainer, tiny_batches):
    tables, batch_of = tiny_batches
    state, metrics = trainer.step(batch_of(0), tables)
    assert set(metrics) == {
        "loss",
        "learning_rate",
        "gradient_norm",
        "parameter_norm",
        "logit_scale",
        "terms/cross_entropy",
        "terms/orthogonality",
    }
    expected = 2.0 * metrics["terms/cross_entropy"] + 0.5 * metrics["terms/orthogonality"]
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["logit_scale"], 1 / 0.07, rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate"], 1e-3, rtol=1e-6)
    assert int(state.step) == 1
    np.testing.assert_array_equal(
        state.params["encoder"]["logit_scale"], trainer.params["encoder"]["logit_scale"]
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        state.params["encoder"]["text"],
        trainer.params["encoder"]["text"],
    )
    moved = (state.params["classifier"], state.params["encoder"]["image"])
    before = (trainer.params["classifier"], trainer.params["encoder"]["image"])
    changed = jax.tree.map(lambda x, y: bool(np.any(x != y)), moved, before)
    assert all(jax.tree.leaves(changed))


def test_masked_rows_do_not_count(trainer, tiny_batches):
    """Whatever the padding holds, the step is that of the examples before it."""
    tables, batch_of = tiny_batches
    first, other = batch_of(0), batch_of(1)
    is_real = np.arange(16) < 9

    def padded(padding):
        def choose(x, y):
            return np.where(is_real.reshape(-1, *[1] * (x.ndim - 1)), x, y)

        images, labels = (
            choose(getattr(first, k), getattr(padding, k)) for k in ("image", "label")
        )
        return Batch(image=images, label=labels, caption=first.caption, mask=is_real)

    (state, metrics), (twin, twin_metrics) = (
        trainer.step(padded(padding), tables) for padding in (first, other)
    )
    # Exactly: what the padding adds to any sum is multiplied by zero.
    jax.tree.map(np.testing.assert_array_equal, metrics, twin_metrics)
    jax.tree.map(np.testing.assert_array_equal, state.params, twin.params)
    _, whole = trainer.step(first, tables)
    assert whole["terms/cross_entropy"] != metrics["terms/cross_entropy"]


@pytest.mark.parametrize("where", ["image", "classifier"])
def test_nan_is_not_swallowed(trainer, tiny_batches, where):
    tables, batch_of = tiny_batches
    params = jax.tree.map(lambda x: x, trainer.params)
    owner = (
        params["classifier"] if where == "classifier" else params["encoder"]["image"]["projection"]
    )
    owner["kernel"] = owner["kernel"].at[1, 1].set(jnp.nan)
    state, metrics = trainer.step(batch_of(0), tables, params)
    assert np.isnan(metrics["loss"])
    assert np.isnan(metrics["gradient_norm"])
    assert np.isnan(state.params["classifier"]["kernel"]).any()


def test_the_gradient_norm_is_that_of_the_trainable_leaves(tiny_model, tiny_batches):
    """What is clipped is what is logged; and without reading it, nothing frozen is computed."""
    encoder, encoder_params = tiny_model
    tables, batch_of = tiny_batches
    batch = jax.tree.map(jnp.asarray, batch_of(0))
    method = Method(
        terms={"contrastive": Contrastive()},
        trainable=("encoder/logit_scale",),
        optimizer=AdamW(warmup_steps=1),
    )
    params = {"encoder": encoder_params, "classifier": {}}
    mesh = make_mesh(devices=jax.devices()[:1])
    tx = make_optimizer(
        method.optimizer, params, num_steps=9, trainable=method.trainable, teacher=None
    )
    state = create_state(params, tx, mesh)
    _, metrics = make_train_step(encoder, method, tx, mesh=mesh, state=state)(state, batch, tables)
    image, text = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (
            np.float64(jax.jit(encoder.encode_image)(encoder_params, batch.image)),
            np.float64(
                jax.jit(encoder.encode_text)(encoder_params, tables.captions[batch.caption])
            ),
        )
    )

    def loss(log_scale):
        logits = np.exp(log_scale) * image @ text.T
        rows = np.diagonal(logits) - np.logaddexp.reduce(logits, axis=1)
        columns = np.diagonal(logits) - np.logaddexp.reduce(logits, axis=0)
        return -0.5 * np.mean(rows + columns)

    at, step = float(encoder_params["logit_scale"]), 1e-5
    slope = (loss(at + step) - loss(at - step)) / (2 * step)
    np.testing.assert_allclose(metrics["loss"], loss(at), rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], abs(slope), rtol=1e-4)


@dataclasses.dataclass(kw_only=True)
class Noise(Term):
    """A random number of the step times the logit scale."""

    def __call__(self, views):
        return jax.random.normal(views.key("noise")) * views.params["encoder"]["logit_scale"]


def test_what_differs_in_numbers_shares_a_program(tiny_model, tiny_batches, monkeypatch):
    """Seed, schedule and weights are arguments: a further seed or trial compiles nothing."""
    tables, batch_of = tiny_batches
    params = {"encoder": {"logit_scale": jnp.float32(2)}, "classifier": {}}
    mesh, jitted, original = make_mesh(devices=jax.devices()[:1]), [], jax.jit

    def kept(*args, **kwargs):
        jitted.append(original(*args, **kwargs))
        return jitted[-1]

    def made(rate=1e-3, seed=0, weight=1.0, num_steps=9, warmup_steps=1):
        """The first step's result, and the text of its program."""
        method = Method(
            terms={"noise": Noise(weight=weight)},
            optimizer=AdamW(learning_rate=rate, warmup_steps=warmup_steps),
        )
        tx = method.make_tx(params, num_steps=num_steps)
        state = create_state(params, tx, mesh)
        monkeypatch.setattr(jax, "jit", kept)
        step = make_train_step(tiny_model[0], method, tx, mesh=mesh, state=state, seed=seed)
        monkeypatch.setattr(jax, "jit", original)
        constants = Constants(tables, None, np.int32(seed), {"noise": np.float32(weight)})
        program = str(jax.make_jaxpr(jitted[-1])(state, batch_of(0), constants))
        after, metrics = step(state, batch_of(0), tables)
        noise = 2 * jax.random.normal(rngs.key(seed, 0, "noise"))
        np.testing.assert_allclose(metrics["terms/noise"], noise, rtol=1e-6)
        np.testing.assert_allclose(metrics["loss"], weight * noise, rtol=1e-6)
        np.testing.assert_allclose(metrics["learning_rate"], rate / warmup_steps, rtol=1e-6)
        # AdamW's first step is the learning rate, and the decay's share of it.
        np.testing.assert_allclose(
            after.params["encoder"]["logit_scale"],
            2 - rate / warmup_steps * (np.sign(weight * noise) + 0.1 * 2),
            rtol=1e-6,
        )
        return program

    first = made()
    for changes in (
        {"rate": 1e-2},
        {"seed": 1},
        {"weight": -0.5},
        {"num_steps": 7, "warmup_steps": 2},
    ):
        assert made(**changes) == first, changes


@dataclasses.dataclass(kw_only=True)
class Squares(Term):
    """Half the sum of the squared parameters: each is its own gradient."""

    def __call__(self, views):
        return 0.5 * optax.tree.norm(views.params, squared=True)


def test_statistics_of_batch_norms_are_not_trained(tiny_model, tiny_batches):
    """Everything is trainable and decays but they, and the norm of the gradient leaves them out."""
    tables, batch_of = tiny_batches
    values = {"scale": 1, "bias": 2, "mean": 3, "var": 4}
    norm = {name: jnp.full(2, value) for name, value in values.items()}
    params = {
        "encoder": {
            "image": {"norm_1": norm, "shortcut_norm": norm},
            "logit_scale": jnp.float32(2),
        },
        "classifier": {},
    }
    params = jax.tree.map(jnp.float32, params)
    method = Method(
        terms={"squares": Squares()},
        trainable=(".*",),
        optimizer=AdamW(learning_rate=1e-2, weight_decay=0.5, warmup_steps=1),
    )
    mesh = make_mesh(devices=jax.devices()[:1])
    tx = method.make_tx(params, num_steps=9)
    state = create_state(params, tx, mesh)
    step_function = make_train_step(tiny_model[0], method, tx, mesh=mesh, state=state)
    state, metrics = step_function(state, batch_of(0), tables)
    before, after = jax.tree.leaves(params), jax.tree.leaves(state.params)
    for name, x, y in zip(leaf_names(params), before, after, strict=True):
        assert np.array_equal(x, y) == is_statistic(name), name
    np.testing.assert_allclose(metrics["gradient_norm"] ** 2, 2 * 2 * (1 + 4) + 4, rtol=1e-6)
