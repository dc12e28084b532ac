import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.types import Embeddings
from calib_jax.objectives import tracer

LOSSES = {
    tracer.FeatureDistillation: tracer.feature_distillation_loss,
    tracer.ContrastiveRelation: tracer.contrastive_relation_loss,
    tracer.InteractiveContrast: tracer.interactive_contrast_loss,
    tracer.CrossDistillation: tracer.cross_distillation_loss,
}
NAMES = [loss.__name__ for loss in LOSSES.values()]


@jax.jit  # all four at once: one compilation a shape
def losses_of(student, teacher):
    return [loss(student, teacher) for loss in LOSSES.values()]


@jax.jit
def gradients_of(student, teacher):
    return [jax.grad(lambda s, f=f: f(s, teacher).mean())(student) for f in LOSSES.values()]


def embeddings(pairs, dtype=jnp.float32):
    image, text, scale = (jnp.asarray(x, dtype) for x in pairs)
    return Embeddings(image=image, text=text, logit_scale=scale)


def log_probs(queries, keys, scale, i):
    logits = np.array([scale * float(queries[i] @ key) for key in keys])
    return logits - np.logaddexp.reduce(logits)


def losses_by_loop(student, teacher):
    """The four losses of each pair, one row a loss."""
    (z, t, s), (z_, t_, s_) = student, teacher
    rows = []
    for i in range(len(z)):
        feature = sum((z[i] - z_[i]) ** 2) / len(z[i]) + sum((t[i] - t_[i]) ** 2) / len(t[i])
        relation = interactive = cross = 0.0
        for own, other, own_, other_ in ((z, t, z_, t_), (t, z, t_, z_)):
            target = log_probs(own_, other_, s_, i)
            within, across = log_probs(own, other, s, i), log_probs(own, other_, s, i)
            relation += sum(np.exp(target) * (target - within)) / 2
            interactive -= across[i] / 2
            cross += sum(np.exp(target) * (target - across)) / 2
        rows.append((feature, relation, interactive, cross))
    return np.array(rows).T


@pytest.mark.parametrize("size", [1, 17])
@pytest.mark.parametrize("scales", [(1.0, 3.0), (14.3, 15.7), (100.0, 60.0)])
def test_losses_by_loop(pairs, size, scales):
    student, teacher = (pairs(seed, size=size, scale=s) for seed, s in enumerate(scales))
    losses = losses_of(embeddings(student), embeddings(teacher))
    expected = losses_by_loop(student, teacher)
    for name, loss, value in zip(NAMES, losses, expected, strict=True):
        assert loss.shape == (size,)
        # Logits of up to `scale` carry a rounding error of `scale` eps each.
        np.testing.assert_allclose(loss, value, rtol=1e-6, atol=8e-7 * max(scales), err_msg=name)


def test_losses_by_loop_in_float64(pairs):
    student, teacher = pairs(0), pairs(1, scale=14.0)
    with jax.enable_x64(True):
        losses = losses_of(embeddings(student, jnp.float64), embeddings(teacher, jnp.float64))
        np.testing.assert_allclose(losses, losses_by_loop(student, teacher), rtol=1e-12)


def test_gradients_match_finite_differences(pairs):
    with jax.enable_x64(True):
        teacher = embeddings(pairs(1, scale=4.0), jnp.float64)
        check_grads(
            jax.jit(lambda *x: jnp.stack([f(Embeddings(*x), teacher) for f in LOSSES.values()])),
            tuple(jnp.asarray(x) for x in pairs(0)),
            order=1,
            modes=("rev",),
            eps=1e-5,
            rtol=1e-6,
            atol=1e-6,
        )


def test_a_student_like_its_teacher_pays_for_contrast_alone(pairs):
    with jax.enable_x64(True):
        teacher = embeddings(pairs(2), jnp.float64)
        losses = losses_of(teacher, teacher)
        for loss, gradients in zip(losses, gradients_of(teacher, teacher), strict=True):
            if loss is losses[2]:
                assert np.all(loss > 0)
                continue
            for leaf in (loss, *jax.tree.leaves(gradients)):
                np.testing.assert_allclose(leaf, 0.0, atol=1e-13)
        others = losses_of(embeddings(pairs(3), jnp.float64), teacher)
        assert np.all(np.array(others) > 0)


@pytest.mark.parametrize("spans", [(400.0, 1.0), (1.0, 400.0), (400.0, 400.0)])
def test_wide_logits_are_finite(spans):
    """Where the teacher's probability underflows and the student's log is -800: no 0 * inf."""
    image = np.repeat(np.eye(3)[:1], 4, axis=0)
    text = image * np.array([[1], [-1], [1], [-1]])
    student, teacher = embeddings((image, text, spans[0])), embeddings((image, -text, spans[1]))
    for function in (losses_of, gradients_of):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(function(student, teacher)))


def test_zero_and_duplicate_rows_are_finite(pairs):
    image, text, scale = pairs(4)
    image[0] = text[1] = 0.0
    image[3], text[3] = image[2], text[2]
    student, teacher = embeddings((image, text, scale)), embeddings(pairs(5))
    for function in (losses_of, gradients_of):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(function(student, teacher)))


def test_a_single_pair_has_nothing_to_contrast(pairs):
    losses = losses_of(embeddings(pairs(6, size=1)), embeddings(pairs(7, size=1)))
    assert losses[0] > 0
    np.testing.assert_array_equal(losses[1:], np.zeros((3, 1)))


@pytest.mark.parametrize("start_step", [0, 1, 5])
def test_the_terms_count_from_their_start_step(views_of, pairs, start_step):
    student, teacher = embeddings(pairs(6)), embeddings(pairs(7))
    expected = losses_of(student, teacher)
    for step in (0, 1, 4, 5, 9):
        views = views_of(6, step=step, student=student, teacher=teacher)
        for term, loss in zip(LOSSES, expected, strict=True):
            value = term(start_step=start_step)(views)
            np.testing.assert_allclose(
                value, loss if step >= start_step else np.zeros(6), rtol=1e-5, atol=1e-6
            )


def test_defaults_are_those_of_the_authors():
    for term in LOSSES:
        assert term.needs == {"teacher", "captions"}
        factor = 2000 if term is tracer.FeatureDistillation else 1
        assert term() == term(weight=0.9 * factor, start_step=1)
