import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import EmaTeacher, TeacherState, teacher_params


def random_params(seed):
    rng = np.random.default_rng(seed)
    return {"kernel": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32), "scale": jnp.float32(2.5)}


def bits(tree):
    return [np.asarray(x).view(np.uint32) for x in jax.tree.leaves(tree)]


def test_momenta_of_the_authors():
    """T = 25,030 and an update every 500 steps: 51 updates, the first of them at step 0."""
    teacher = EmaTeacher()
    steps = [t for t in range(25_030) if t % teacher.update_every == 0]
    assert len(steps) == 51
    momenta = [float(teacher.momentum(t, 25_030)) for t in steps]
    expected = [
        0.05,
        0.1349,
        0.2198,
        0.3047,
        0.3896,
        0.4745,
        0.5594,
        0.6443,
        0.7292,
        0.8141,
        0.8990,
    ]
    np.testing.assert_allclose(momenta[:11], expected, atol=5.1e-5)  # printed with four digits
    exact = [0.05 + 0.85 / (0.2 * 25_030) * t for t in steps[:11]]
    np.testing.assert_allclose(momenta[:11], exact, rtol=1e-6)
    np.testing.assert_array_equal(momenta[11:], np.full(40, np.float32(0.9)))
    traced = jax.jit(jax.vmap(lambda t: teacher.momentum(t, 25_030)))(jnp.array(steps))
    np.testing.assert_allclose(traced, momenta, rtol=1e-6)


@pytest.mark.parametrize("ramp_fraction", [0.0, 1.0])
def test_momenta_at_the_ends_of_the_ramp(ramp_fraction):
    teacher = EmaTeacher(ramp_fraction=ramp_fraction)
    first, last = float(teacher.momentum(0, 10)), float(teacher.momentum(9, 10))
    np.testing.assert_allclose(first, 0.9 if ramp_fraction == 0.0 else 0.05, rtol=1e-6)
    np.testing.assert_allclose(last, 0.9 if ramp_fraction == 0.0 else 0.05 + 0.85 * 0.9, rtol=1e-6)


@pytest.mark.parametrize("update_every", [1, 3])
def test_the_teacher_follows_the_student_after_the_optimizer_step(update_every):
    num_steps = 8
    teacher = EmaTeacher(update_every=update_every, ramp_fraction=0.5)
    student = random_params(0)
    tx = make_optimizer(
        AdamW(learning_rate=0.1, warmup_steps=1),
        student,
        num_steps=num_steps,
        trainable=(".*",),
        teacher=teacher,
    )

    @jax.jit
    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(student)
    jax.tree.map(np.testing.assert_array_equal, teacher_params(state), student)
    expected = jax.tree.map(np.float64, student)
    for t in range(num_steps):
        before = teacher_params(state)
        student, state = step(student, state, random_params(t + 1))
        after = teacher_params(state)
        if t % update_every:
            jax.tree.map(np.testing.assert_array_equal, bits(after), bits(before))
            continue
        m = min(0.05 + 0.85 / 4 * t, 0.9) if t < 4 else 0.9
        expected = jax.tree.map(
            lambda e, s, m=m: m * e + (1 - m) * np.float64(s), expected, student
        )
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-7), after, expected
        )


def test_updates_pass_through():
    params, updates = random_params(0), random_params(1)
    tx = EmaTeacher().transform(10)
    passed, state = tx.update(updates, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, passed, updates)
    assert int(state.step) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_between_updates_not_even_a_broken_student_or_a_negative_zero_reaches_the_teacher(bad):
    params = {"kernel": jnp.array([-0.0, 1.0, 2.0])}
    tx = EmaTeacher(update_every=2).transform(10)
    state = TeacherState(params=params, step=jnp.int32(1))
    updates = {"kernel": jnp.array([0.0, bad, 1.0])}
    _, state = jax.jit(tx.update)(updates, state, params)
    jax.tree.map(np.testing.assert_array_equal, bits(state.params), bits(params))


def test_the_teacher_owns_its_arrays():
    params = random_params(0)
    state = EmaTeacher().transform(10).init(params)
    params["kernel"].delete()
    assert np.isfinite(state.params["kernel"]).all()


def test_params_are_needed():
    params = random_params(0)
    tx = EmaTeacher().transform(10)
    with pytest.raises(ValueError, match="the EMA teacher needs params"):
        tx.update(params, tx.init(params))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "initial_momentum",
            -0.1,
            r"^initial_momentum: got -0.1, expected a number in 0\.\.1",
        ),
        ("final_momentum", 1.1, r"^final_momentum: got 1.1, expected a number in 0\.\.1"),
        ("ramp_fraction", float("nan"), r"^ramp_fraction: got nan, expected a number"),
        ("update_every", 0, r"^update_every: got 0, expected at least 1\. Set it to 1"),
    ],
)
def test_settings_out_of_range_are_errors(field, value, message):
    teacher = EmaTeacher()
    setattr(teacher, field, value)
    with pytest.raises(ConfigError, match=message):
        teacher.validate()


def test_the_defaults_are_valid():
    EmaTeacher().validate()
