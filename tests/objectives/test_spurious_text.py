import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core import rngs
from calib_jax.core.types import Embeddings
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.spurious_text import SpuriousTexts, spurious_divergence
from calib_jax.objectives.views import Start, Tables

LABELS = np.array([0, 2, 1, 1, 2, 0])
divergence_of = jax.jit(spurious_divergence)
value_and_gradients = jax.jit(jax.value_and_grad(lambda *x: spurious_divergence(*x).mean()))


def embeddings(pairs, dtype=jnp.float32):
    image, text, scale = (jnp.asarray(x, dtype) for x in pairs)
    return Embeddings(image=image, text=text, logit_scale=scale)


def divergence_by_loop(student, start, labels):
    losses = np.zeros(len(labels))
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if labels[j] != labels[i]]
        if not others:
            continue
        log_p, log_p0 = (
            logits - np.logaddexp.reduce(logits)
            for logits in (
                np.array([start[2] * float(image[i] @ text[j]) for j in others])
                for image, text, _ in (student, start)
            )
        )
        losses[i] = sum(np.exp(log_p0) * (log_p0 - log_p))
    return losses


@pytest.mark.parametrize("labels", [LABELS, np.arange(6), np.array([0, 0, 0, 0, 0, 1])])
def test_divergence_by_loop(pairs, labels):
    student, start = pairs(0, scale=3.0), pairs(1, scale=14.0)
    with jax.enable_x64(True):
        value = divergence_of(
            embeddings(student, jnp.float64), embeddings(start, jnp.float64), jnp.asarray(labels)
        )
        np.testing.assert_allclose(value, divergence_by_loop(student, start, labels), rtol=1e-7)


def test_gradients_match_finite_differences(pairs):
    with jax.enable_x64(True):
        start = embeddings(pairs(1, scale=4.0), jnp.float64)
        check_grads(
            jax.jit(lambda *x: divergence_of(Embeddings(*x, start.logit_scale), start, LABELS)),
            tuple(jnp.asarray(x) for x in pairs(0)[:2]),
            order=1,
            modes=("rev",),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize("size", [1, 6])
def test_a_batch_of_one_class_costs_nothing(pairs, size):
    """One pair alone, too."""
    student, start = (embeddings(pairs(seed, size=size)) for seed in (2, 3))
    labels = jnp.zeros(size, jnp.int32)
    for leaf in jax.tree.leaves(value_and_gradients(student, start, labels)):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))


@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_wide_logits_and_zero_and_duplicate_rows_are_finite(pairs, scale):
    image, text, _ = pairs(4)
    image[0] = text[1] = 0.0
    image[3], text[3] = image[2], text[2]
    image[4], text[5] = np.eye(5)[0], -np.eye(5)[0]
    student, start = embeddings((image, text, scale)), embeddings((-image, text, scale))
    for leaf in jax.tree.leaves(value_and_gradients(student, start, jnp.asarray(LABELS))):
        assert np.isfinite(leaf).all()


class Rows(Encoder):
    """A text tower that a loop can follow: the first token is a row of the parameters."""

    def encode_text(self, params, tokens):
        return params["rows"][tokens[:, 0]]


@pytest.fixture
def views(views_of, pairs):
    """Six images of three classes with four prompts each; the token of a prompt is its number."""
    rng = np.random.default_rng(5)
    rows, start_rows = jnp.asarray(rng.normal(size=(2, 12, 5)), jnp.float32)
    images, start_images = jnp.asarray(rng.normal(size=(2, 6, 5)), jnp.float32)
    made = views_of(6, labels=LABELS)
    start = {"rows": start_rows, "logit_scale": jnp.float32(2.0)}
    made = dataclasses.replace(
        made,
        encoder=Rows(made.encoder.config),
        tables=Tables(captions=made.tables.captions, class_tokens=jnp.arange(12).reshape(3, 4, 1)),
        params={"encoder": {"rows": rows, "logit_scale": jnp.float32(1.0)}},
        start=Start({"encoder": start, "classifier": {}}),
    )
    vars(made).update(image_features=images, pretrained_image_features=start_images)
    return made


def test_the_term_draws_a_prompt_of_the_class_of_each_image(views):
    columns = jax.random.randint(rngs.key(0, 1, "spurious_text"), (6,), 0, 4)
    rows = LABELS * 4 + np.asarray(columns)
    assert len(set(np.asarray(columns))) > 1
    student, start = (
        (
            *(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)),
            np.exp(np.float64(params["logit_scale"])),
        )
        for images, texts, params in (
            (np.float64(images), np.float64(params["rows"])[rows], params)
            for images, params in (
                (views.image_features, views.params["encoder"]),
                (views.pretrained_image_features, views.start.params["encoder"]),
            )
        )
    )
    expected = divergence_by_loop(student, start, LABELS)
    np.testing.assert_allclose(SpuriousTexts()(views), expected, rtol=1e-5)


def test_defaults_are_those_of_the_authors():
    assert SpuriousTexts() == SpuriousTexts(weight=0.5)
    assert SpuriousTexts.needs == {"pretrained", "templates"}
