import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.classifiers.linear import LinearHead
from calib_jax.core.errors import ConfigError
from calib_jax.models.encoder import Encoder
from calib_jax.objectives import mixup
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.mixup import Mixup, draw_mix, mix_images

LABELS = np.array([0, 2, 1, 1, 3, 0])


class MeanColour(Encoder):
    """An image tower that a loop can follow."""

    def encode_image(self, params, images):
        return jnp.mean(images.astype(jnp.float32), axis=(1, 2))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


@pytest.fixture
def views(views_of, images):
    made = views_of(6, labels=LABELS)
    rng = np.random.default_rng(1)
    head = {"kernel": rng.normal(0, 3, (3, 4)), "bias": rng.normal(size=4)}
    return dataclasses.replace(
        made,
        encoder=MeanColour(made.encoder.config),
        classifier=LinearHead(),
        params={"encoder": {}, "classifier": jax.tree.map(jnp.float32, head)},
        batch=dataclasses.replace(made.batch, image=images),
    )


SHARE, PARTNER = 0.375, np.array([3, 1, 0, 2, 5, 4])


@pytest.fixture
def held_mix(monkeypatch):
    """The draws take seconds to compile."""
    monkeypatch.setattr(
        mixup, "draw_mix", lambda key, alpha, size: (jnp.float32(SHARE), jnp.asarray(PARTNER))
    )


def loss_by_loop(views, share, partner, smoothing):
    images, labels = views.batch.image, LABELS
    kernel, bias = (np.float64(views.params["classifier"][name]) for name in ("kernel", "bias"))
    losses = np.zeros(len(images))
    for i, j in enumerate(partner):
        mixed = np.round(share * np.float64(images[i]) + (1 - share) * np.float64(images[j]))
        colour = mixed.mean(axis=(0, 1))
        logits = colour / np.linalg.norm(colour) @ kernel + bias
        log_probs = logits - np.logaddexp.reduce(logits)
        for weight, label in ((share, labels[i]), (1 - share, labels[j])):
            target = (1 - smoothing) * np.eye(4)[label] + smoothing / 4
            losses[i] -= weight * float(target @ log_probs)
    return losses


def test_images_by_loop(images):
    images[0], images[3] = 0, 255
    for share in (0.0, 0.25, 0.625, 1.0):
        expected = [
            np.round(share * np.float64(images[i]) + (1 - share) * np.float64(images[j]))
            for i, j in enumerate(PARTNER)
        ]
        mixed = mix_images(jnp.asarray(images), jnp.asarray(PARTNER), jnp.float32(share))
        assert mixed.dtype == jnp.uint8
        np.testing.assert_array_equal(mixed, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_term_by_loop(views, held_mix, smoothing):
    expected = loss_by_loop(views, SHARE, PARTNER, smoothing)
    np.testing.assert_allclose(Mixup(label_smoothing=smoothing)(views), expected, rtol=1e-5)


def test_each_step_draws_anew(views):
    draws = []
    for step in (1, 2):
        at_step = dataclasses.replace(views, step=jnp.int32(step))
        share, partner = draw_mix(at_step.key("mixup"), 1.0, 6)
        assert 0 < share < 1
        assert sorted(np.asarray(partner)) == list(range(6))
        expected = loss_by_loop(views, float(share), np.asarray(partner), 0.0)
        np.testing.assert_allclose(Mixup(alpha=1.0)(at_step), expected, rtol=1e-5)
        draws.append((float(share), *np.asarray(partner)))
    assert draws[0] != draws[1]


def test_gradients_match_finite_differences(views, held_mix):
    with jax.enable_x64(True):
        head = jax.tree.map(jnp.float64, views.params["classifier"])
        check_grads(
            jax.jit(
                lambda head: Mixup()(
                    dataclasses.replace(views, params={"encoder": {}, "classifier": head})
                ).sum()
            ),
            (head,),
            order=1,
            modes=("rev",),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize("rows", [[0], [2, 2, 2]])
def test_a_single_image_and_equal_images_are_not_mixed(views, monkeypatch, rows):
    monkeypatch.setattr(
        mixup, "draw_mix", lambda key, alpha, size: (jnp.float32(0.3), jnp.arange(size)[::-1])
    )
    alone = dataclasses.replace(views, batch=jax.tree.map(lambda x: x[np.array(rows)], views.batch))
    np.testing.assert_allclose(Mixup()(alone), CrossEntropy()(alone), rtol=1e-6)


def test_wide_logits_and_black_images_are_finite(views, images, held_mix):
    batch = dataclasses.replace(views.batch, image=np.where(LABELS[:, None, None, None], images, 0))
    kernel = {"kernel": jnp.eye(3, 4) * 600.0, "bias": jnp.zeros(4)}

    def loss(head):
        params = {"encoder": {}, "classifier": head}
        wide = dataclasses.replace(views, batch=batch, params=params)
        return Mixup(label_smoothing=0.1)(wide).sum()

    for leaf in jax.tree.leaves(jax.value_and_grad(loss)(kernel)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_an_alpha_out_of_range(alpha):
    message = rf"^alpha: got {alpha}, expected a finite number > 0\. Use CrossEntropy"
    with pytest.raises(ConfigError, match=message):
        Mixup(alpha=alpha).validate()
    with pytest.raises(ConfigError, match=r"^label_smoothing: got 1\.0"):
        Mixup(label_smoothing=1.0).validate()
    Mixup().validate()
