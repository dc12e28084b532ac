"""The authors' CaRot loss, part by part, with the gradients of its total."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.linalg import normalize
from calib_jax.core.types import Embeddings
from calib_jax.methods.robust import carot
from calib_jax.training.step import loss_and_terms

INPUTS = ("image_features", "text_features", "logit_scale", "image_projection", "text_projection")
PARTS = {
    "contrastive": "contrastive",
    "cross_projection": "cross_projection_norm",
    "orthogonality": "orthogonality_norm",
    "self_distillation": "self_distillation",
}


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "carot_losses.npz")


@pytest.fixture(scope="module")
def outcome(golden, views_of):
    """The total, the parts and the gradients by the library's own step code."""
    teacher = Embeddings(
        image=jnp.asarray(golden["teacher_image_emb"]),
        text=jnp.asarray(golden["teacher_text_emb"]),
        logit_scale=jnp.asarray(golden["teacher_logit_scale"]),
    )

    def loss(inputs):
        views = views_of(
            16,
            student=Embeddings(
                image=normalize(inputs["image_features"]),
                text=normalize(inputs["text_features"]),
                logit_scale=inputs["logit_scale"],
            ),
            teacher=teacher,
            image_projection=inputs["image_projection"],
            text_projection=inputs["text_projection"],
        )
        return loss_and_terms(views, carot())

    inputs = {name: jnp.asarray(golden[name]) for name in INPUTS}
    (total, parts), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs)
    return total, parts, gradients


def test_total(golden, outcome):
    np.testing.assert_allclose(outcome[0], golden["total"], rtol=1e-5)


@pytest.mark.parametrize("name", PARTS)
def test_parts(golden, outcome, name):
    np.testing.assert_allclose(outcome[1][name], golden[PARTS[name]], rtol=1e-5)


@pytest.mark.parametrize("name", INPUTS)
def test_gradients(golden, outcome, name):
    expected = golden[f"grad_{name}"]
    # An entry near zero is a difference of summands as large as the largest entry: its rounding
    # error is a fraction of those, not of itself.
    atol = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(outcome[2][name], expected, rtol=1e-5, atol=atol)
