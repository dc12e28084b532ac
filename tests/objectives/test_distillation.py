import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.classifiers.linear import LinearHead
from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Embeddings
from calib_jax.objectives.distillation import (
    LogitDistillation,
    SelfDistillation,
    StaticDistillation,
    TeacherTerm,
    kl_divergence,
    self_distillation_loss,
)
from calib_jax.objectives.tracer import CrossDistillation

loss_of = jax.jit(self_distillation_loss)
value_and_gradients = jax.jit(jax.value_and_grad(lambda s, t: self_distillation_loss(s, t).mean()))


def embeddings(pairs, dtype=jnp.float32):
    image, text, scale = (jnp.asarray(x, dtype) for x in pairs)
    return Embeddings(image=image, text=text, logit_scale=scale)


def soft_cross_entropy_by_loop(student, teacher):
    def log_probs(model, i, axis):
        image, text, scale = model
        a, b = (image, text) if axis == 1 else (text, image)
        logits = np.array([scale * float(a[i] @ b[j]) for j in range(len(b))])
        return logits - np.logaddexp.reduce(logits)

    losses = np.zeros(len(student[0]))
    for i in range(len(losses)):
        for axis in (1, 0):
            target = np.exp(log_probs(teacher, i, axis))
            losses[i] -= sum(target * log_probs(student, i, axis))
    return losses


@pytest.mark.parametrize("size", [1, 17])
@pytest.mark.parametrize("scales", [(1.0, 3.0), (14.3, 15.7), (100.0, 60.0)])
def test_loss_by_loop(pairs, size, scales):
    student, teacher = (pairs(seed, size=size, scale=s) for seed, s in enumerate(scales))
    expected = soft_cross_entropy_by_loop(student, teacher)
    loss = loss_of(embeddings(student), embeddings(teacher))
    assert loss.shape == (size,)
    # Logits of up to `scale` carry a rounding error of `scale` eps each.
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=8e-7 * max(scales))


def test_loss_by_loop_in_float64(pairs):
    student, teacher = pairs(0), pairs(1, scale=14.0)
    with jax.enable_x64(True):
        loss = loss_of(embeddings(student, jnp.float64), embeddings(teacher, jnp.float64))
        expected = soft_cross_entropy_by_loop(student, teacher)
        np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_gradients_match_finite_differences(pairs):
    with jax.enable_x64(True):
        teacher = embeddings(pairs(1, scale=4.0), jnp.float64)
        check_grads(
            jax.jit(lambda *x: self_distillation_loss(Embeddings(*x), teacher).sum()),
            tuple(jnp.asarray(x) for x in pairs(0)),
            order=1,
            modes=("rev",),
            rtol=1e-6,
            atol=1e-6,
        )


def test_the_teacher_itself_is_the_minimum(pairs):
    with jax.enable_x64(True):
        teacher = embeddings(pairs(2), jnp.float64)
        gradients = value_and_gradients(teacher, teacher)[1]
        for leaf in jax.tree.leaves(gradients):
            np.testing.assert_allclose(leaf, 0.0, atol=1e-13)
        other = loss_of(embeddings(pairs(3), jnp.float64), teacher)
        assert np.all(other > loss_of(teacher, teacher))


@pytest.mark.parametrize("spans", [(400.0, 1.0), (1.0, 400.0), (400.0, 400.0)])
def test_wide_logits_are_finite(spans):
    """Where the teacher's probability underflows and the student's log is -800: no 0 * inf."""
    image = np.repeat(np.eye(3)[:1], 4, axis=0)
    text = image * np.array([[1], [-1], [1], [-1]])
    student = embeddings((image, text, spans[0]))
    teacher = embeddings((image, -text, spans[1]))
    for leaf in jax.tree.leaves(value_and_gradients(student, teacher)):
        assert np.isfinite(leaf).all()


def test_zero_and_duplicate_rows_are_finite(pairs):
    image, text, scale = pairs(4)
    image[0] = text[1] = 0.0
    image[3], text[3] = image[2], text[2]
    student, teacher = embeddings((image, text, scale)), embeddings(pairs(5))
    for leaf in jax.tree.leaves(value_and_gradients(student, teacher)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("start_step", "step", "counts"),
    [(1, 0, False), (1, 1, True), (1, 9, True), (0, 0, True), (5, 4, False), (5, 5, True)],
)
def test_the_term_counts_from_its_start_step(views_of, pairs, start_step, step, counts):
    student, teacher = embeddings(pairs(6)), embeddings(pairs(7))

    @jax.jit
    def value_and_gradients(student, step):
        def total(student):
            views = views_of(6, step=step, student=student, teacher=teacher)
            value = SelfDistillation(start_step=start_step)(views)
            return value.sum(), value

        return jax.value_and_grad(total, has_aux=True)(student)

    (_, value), gradients = value_and_gradients(student, step)
    expected = loss_of(student, teacher) if counts else np.zeros(6)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert all(np.any(leaf != 0) == counts for leaf in jax.tree.leaves(gradients))


def test_defaults_are_those_of_the_authors():
    assert SelfDistillation() == SelfDistillation(weight=1.5, start_step=1)
    assert SelfDistillation.needs == {"teacher", "captions"}


@pytest.mark.parametrize("term", [SelfDistillation, CrossDistillation])
def test_a_negative_start_step(term):
    message = r"^start_step: got -1, expected at least 0\. Use 0 to count from the first step\."
    with pytest.raises(ConfigError, match=message):
        term(start_step=-1).validate()
    term(start_step=0).validate()


def test_a_teacher_term_must_say_what_it_learns():
    with pytest.raises(TypeError, match="abstract method '?loss"):
        TeacherTerm()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_static_distillation_learns_from_the_softened_start(views_of, pairs, temperature):
    """The student's own logits are not softened."""
    student, start = pairs(8, scale=14.0), pairs(9, scale=20.0)
    views = views_of(6, step=0, student=embeddings(student), pretrained=embeddings(start))
    softened = pairs(9, scale=20.0 / temperature)
    expected = soft_cross_entropy_by_loop(student, softened)
    term = StaticDistillation(temperature=temperature)
    np.testing.assert_allclose(term(views), expected, rtol=1e-5)
    assert StaticDistillation.needs == {"pretrained", "captions"}


def divergence_by_loop(target_logits, logits, temperature):
    losses = np.zeros(len(logits))
    for i in range(len(logits)):
        z, z0 = logits[i] / temperature, target_logits[i] / temperature
        log_p, log_p0 = z - np.logaddexp.reduce(z), z0 - np.logaddexp.reduce(z0)
        for k in range(len(z)):
            losses[i] += temperature**2 * np.exp(log_p0[k]) * (log_p0[k] - log_p[k])
    return losses


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_by_loop_and_by_finite_differences(temperature):
    target, logits = np.random.default_rng(0).normal(0, 3, (2, 9, 5))
    with jax.enable_x64(True):
        divergence_of = jax.jit(
            lambda x: kl_divergence(jnp.asarray(target), x, temperature=temperature)
        )
        expected = divergence_by_loop(target, logits, temperature)
        np.testing.assert_allclose(divergence_of(jnp.asarray(logits)), expected, rtol=1e-11)
        check_grads(
            lambda x: divergence_of(x).sum(),
            (jnp.asarray(logits),),
            order=1,
            modes=("rev",),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("target", "logits", "expected"),
    [
        ([[0.0, 500.0]], [[500.0, 0.0]], 500.0),
        ([[0.0, 500.0]], [[0.0, 500.0]], 0.0),
        ([[3.0]], [[-3.0]], 0.0),
        ([[0.0, 0.0]], [[0.0, 0.0]], 0.0),
    ],
)
def test_divergences_of_wide_and_single_logits(target, logits, expected):
    target = jnp.asarray(target)
    value, gradient = jax.value_and_grad(lambda x: kl_divergence(target, x).sum())(
        jnp.asarray(logits)
    )
    assert float(value) == expected
    assert np.isfinite(gradient).all()


def test_logit_distillation_has_the_head_and_the_images_of_the_start(views_of):
    rng = np.random.default_rng(1)
    kernel, bias, features = rng.normal(size=(8, 3)), rng.normal(size=3), rng.normal(size=(6, 8))
    logits = rng.normal(size=(6, 3))
    views = views_of(
        6,
        logits=jnp.asarray(logits, jnp.float32),
        pretrained_image_features=jnp.asarray(features, jnp.float32),
        classifier=LinearHead(),
        start_params={
            "encoder": {},
            "classifier": jax.tree.map(jnp.float32, {"kernel": kernel, "bias": bias}),
        },
    )
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = divergence_by_loop(unit @ kernel + bias, logits, 2.0)
    np.testing.assert_allclose(LogitDistillation(temperature=2.0)(views), expected, rtol=1e-4)
    assert LogitDistillation.needs == {"pretrained"}


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("term", [LogitDistillation, StaticDistillation])
def test_a_temperature_out_of_range(term, temperature):
    message = rf"^temperature: got {temperature}, expected a finite number > 0\. Use 1\.0"
    with pytest.raises(ConfigError, match=message):
        term(temperature=temperature).validate()
    term().validate()
