"""Every term of calib_jax/objectives keeps the contract: a new term needs no line here."""

import dataclasses
import importlib
import inspect
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
from calib_jax.objectives.views import Start, Views, context_embeddings
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
        and not inspect.isabstract(x)
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
    """What terms look at, computed once for all; teacher and start differ from the student."""
    tables, batch_of = tiny_batches
    rng = np.random.default_rng(3)
    start = jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(x.dtype), student)
    views = Views(
        encoder=tiny_model[0],
        classifier=LinearHead(),
        params=student,
        teacher_params=jax.tree.map(lambda x: 0.9 * x, student),
        tables=tables,
        batch=jax.tree.map(jnp.asarray, batch_of(0)),
        step=jnp.int32(1),
        start=Start(
            start, context_embeddings(tiny_model[0], start["encoder"], tables.class_tokens)
        ),
    )

    @jax.jit  # the towers take seconds outside
    def quantities(params, teacher_params, start):
        traced = dataclasses.replace(
            views, params=params, teacher_params=teacher_params, start=start
        )
        names = (
            "student",
            "teacher",
            "pretrained",
            "logits",
            "image_features",
            "pretrained_image_features",
        )
        return {name: getattr(traced, name) for name in names}

    vars(views).update(quantities(views.params, views.teacher_params, views.start))
    return views


@pytest.fixture(scope="module")
def method(views):
    """All terms at once: compiling a step for each would take minutes."""
    return Method(
        classifier=views.classifier,
        terms={term.__name__: term() for term in TERMS},
        teacher=EmaTeacher(update_every=1),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=1),
    )


@pytest.fixture(scope="module")
def jitted(views, method):
    """Each term's value and gradient, under jit."""

    def values(params):
        terms = loss_and_terms(dataclasses.replace(views, params=params), method)[1]
        return terms, terms

    gradients, terms = jax.jit(jax.jacrev(values, has_aux=True))(views.params)
    return terms, gradients


class Uncaptioned(Views):
    """Views of images without captions."""

    @property
    def tokens(self):
        raise LookupError("captions")


def uncaptioned(views):
    fields = {field.name: getattr(views, field.name) for field in dataclasses.fields(views)}
    bare = Uncaptioned(**fields)
    known = ("logits", "image_features", "pretrained_image_features")
    vars(bare).update({name: vars(views)[name] for name in known})
    return bare


@pytest.mark.parametrize("term", TERMS)
def test_a_term_looks_at_captions_if_and_only_if_it_needs_them(term, views):
    if "captions" not in term.needs:
        return  # it is computed without them below
    with pytest.raises(LookupError, match="captions"):
        term()(uncaptioned(views))


@pytest.mark.parametrize("name", [term.__name__ for term in TERMS])
def test_a_term_is_finite_and_the_same_under_jit(name, views, method, jitted):
    """Its gradient too, and it is not zero."""
    alone = dataclasses.replace(method, terms={name: method.terms[name]})
    alone.validate("contract", num_steps=9)
    seen = views if "captions" in alone.needs() else uncaptioned(views)
    (expected,) = loss_and_terms(seen, alone)[1].values()
    assert np.isfinite(expected)
    terms, gradients = jitted
    np.testing.assert_allclose(terms[name], expected, rtol=1e-5, atol=1e-6)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradients[name])]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(leaf.any() for leaf in leaves)


def test_the_train_step_adds_them_up(views, method, jitted):
    """The weighted sum and its gradient; the state keeps its structure."""
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
    step_function = make_train_step(
        views.encoder, method, tx, mesh=mesh, state=state, start=views.start
    )
    state, metrics = step_function(state, views.batch, views.tables)
    terms, gradients = jitted
    weights = {name: term.weight for name, term in method.terms.items()}
    for name, value in terms.items():
        np.testing.assert_allclose(metrics[f"terms/{name}"], value, rtol=1e-5, atol=1e-6)
    loss = sum(weights[name] * float(value) for name, value in terms.items())
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    total = jax.tree.map(
        lambda *leaves: sum(
            w * np.float64(g) for w, g in zip(weights.values(), leaves, strict=True)
        ),
        *(gradients[name] for name in weights),
    )
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(total)))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_no_gradient_reaches_the_teacher_and_the_start(views):
    method = Method(terms={term.__name__: term() for term in TERMS})

    @jax.jit
    def gradients(teacher_params, start_params):
        def loss(teacher_params, start_params):
            start = dataclasses.replace(views.start, params=start_params)
            other = dataclasses.replace(views, teacher_params=teacher_params, start=start)
            return loss_and_terms(other, method)[0]

        return jax.grad(loss, argnums=(0, 1))(teacher_params, start_params)

    for leaf in jax.tree.leaves(gradients(views.teacher_params, views.start.params)):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
