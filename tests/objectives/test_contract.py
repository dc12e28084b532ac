"""Every term of calib_jax/objectives keeps the contract: a new term needs no line here."""

import dataclasses
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import calib_jax.objectives
from calib_jax.classifiers.linear import LinearHead
from calib_jax.core.sharding import make_mesh
from calib_jax.methods.method import Method
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import EmaTeacher
from calib_jax.training.state import create_state
from calib_jax.training.step import loss_and_terms, make_train_step

FOLDER = pathlib.Path(calib_jax.objectives.__file__).parent


def terms_of(path):
    module = importlib.import_module(f"calib_jax.objectives.{path.stem}")
    return [
        x
        for x in vars(module).values()
        if isinstance(x, type)
        and issubclass(x, Term)
        and x is not Term
        and x.__module__ == module.__name__
    ]


TERMS = sorted(
    (term for path in FOLDER.glob("*.py") if path.stem != "__init__" for term in terms_of(path)),
    key=lambda term: term.__name__,
)


def test_the_folder_is_not_empty():
    known = {
        "Contrastive",
        "CrossEntropy",
        "CrossProjection",
        "OrthogonalProjection",
        "SelfDistillation",
        "SmallestSingularValue",
    }
    assert known <= {term.__name__ for term in TERMS}


@pytest.fixture(scope="module")
def student(tiny_model, tiny_batches):
    encoder, encoder_params = tiny_model
    tables, _ = tiny_batches
    head = LinearHead().init(jax.random.key(0), encoder, encoder_params, tables.class_tokens)
    return {"encoder": encoder_params, "classifier": head}


@pytest.fixture(scope="module")
def views(tiny_model, tiny_batches, student):
    """What terms look at, computed once for all of them; the teacher differs from the student."""
    tables, batch_of = tiny_batches
    views = Views(
        encoder=tiny_model[0],
        classifier=LinearHead(),
        params=student,
        teacher_params=jax.tree.map(lambda x: 0.9 * x, student),
        tables=tables,
        batch=jax.tree.map(jnp.asarray, batch_of(0)),
        step=jnp.int32(1),
    )

    @jax.jit  # the towers take seconds outside
    def quantities(params, teacher_params):
        traced = dataclasses.replace(views, params=params, teacher_params=teacher_params)
        names = ("student", "teacher", "logits", "image_features")
        return {name: getattr(traced, name) for name in names}

    vars(views).update(quantities(views.params, views.teacher_params))
    return views


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.__name__)
def test_the_train_step_equals_the_term_outside_jit(term, views):
    """Finite value, finite gradient that is not zero, the same under jit, the same structure."""
    method = Method(
        classifier=views.classifier,
        terms={"term": term()},
        teacher=EmaTeacher(update_every=1),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=1),
    )
    method.validate("contract", num_steps=9)
    expected = loss_and_terms(views, method)[0]
    assert np.isfinite(expected)
    mesh = make_mesh(devices=jax.devices()[:1])
    tx = make_optimizer(
        method.optimizer, views.params, num_steps=9, trainable=(".*",), teacher=method.teacher
    )
    state = create_state(views.params, tx, mesh)
    teacher = state.opt_state[-1]._replace(params=jax.tree.map(jnp.array, views.teacher_params))
    state = dataclasses.replace(
        state, step=views.step + 0, opt_state=(*state.opt_state[:-1], teacher)
    )
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    step_function = make_train_step(views.encoder, method, tx, mesh=mesh, state=state)
    state, metrics = step_function(state, views.batch, views.tables)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5, atol=1e-6)
    assert 0 < metrics["gradient_norm"] < np.inf
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_no_gradient_reaches_the_teacher(views):
    method = Method(terms={term.__name__: term() for term in TERMS})

    @jax.jit
    def gradients(teacher_params):
        def loss(teacher_params):
            return loss_and_terms(
                dataclasses.replace(views, teacher_params=teacher_params), method
            )[0]

        return jax.grad(loss)(teacher_params)

    for leaf in jax.tree.leaves(gradients(views.teacher_params)):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
