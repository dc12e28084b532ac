import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.models.sharding_rules import state_shardings
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import (
    EmaTeacher,
    FrozenTeacher,
    Teacher,
    TeacherState,
    TrajectoryTeacher,
    teacher_params,
)

TEACHERS = pytest.mark.parametrize(
    "teacher", [EmaTeacher(), TrajectoryTeacher(), FrozenTeacher()], ids=lambda x: type(x).__name__
)


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


@pytest.mark.parametrize("beta", [0.2, 0.5, 1.0, 1.5])
def test_the_trajectory_teacher_is_the_weighted_mean_of_all_students(beta):
    num_steps = 9
    students = [random_params(k) for k in range(num_steps + 1)]
    # The density itself, its constant included.
    density = math.gamma(2 * beta) / math.gamma(beta) ** 2
    positions = [(k + 0.5) / (num_steps + 1) for k in range(num_steps + 1)]
    weights = [density * (x * (1 - x)) ** (beta - 1) for x in positions]
    tx = TrajectoryTeacher(beta=beta).transform(num_steps)
    update, state = jax.jit(tx.update), tx.init(students[0])
    for k in range(1, num_steps + 1):
        updates = jax.tree.map(lambda new, old: new - old, students[k], students[k - 1])
        _, state = update(updates, state, students[k - 1])
        for name in students[0]:
            seen = [
                w * np.float64(s[name]) for w, s in zip(weights, students[: k + 1], strict=False)
            ]
            np.testing.assert_allclose(
                state.params[name], sum(seen) / sum(weights[: k + 1]), rtol=1e-5, atol=2e-6
            )


@pytest.mark.parametrize("num_steps", [1, 7, 25_030])
def test_shares_follow_the_running_sum(num_steps):
    shares = TrajectoryTeacher(beta=0.3).shares(num_steps)
    assert shares.shape == (num_steps,)
    total = None
    for k in range(num_steps + 1):
        x = (k + 0.5) / (num_steps + 1)
        weight = (x * (1 - x)) ** (0.3 - 1)
        if total is None:
            total = weight
            continue
        ratio = weight / total
        assert abs(shares[k - 1] - ratio / (1 + ratio)) <= 2e-7 * shares[k - 1]
        total += weight


def test_the_mean_of_all_students_where_beta_is_one():
    np.testing.assert_allclose(
        TrajectoryTeacher(beta=1.0).shares(5), [1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6], rtol=1e-6
    )


@pytest.mark.parametrize("beta", [1e-6, 1e4])
def test_extreme_densities_give_shares(beta):
    shares = TrajectoryTeacher(beta=beta).shares(10_000)
    assert np.all((shares >= 0) & (shares <= 1))


def test_a_leaf_that_stays_is_kept_to_the_last_bit():
    params = random_params(0)
    tx = TrajectoryTeacher().transform(5)
    update, state = jax.jit(tx.update), tx.init(params)
    for _ in range(5):
        _, state = update(jax.tree.map(jnp.zeros_like, params), state, params)
    jax.tree.map(np.testing.assert_array_equal, bits(state.params), bits(params))


def test_the_frozen_teacher_stays_even_where_the_student_breaks():
    params = random_params(0)
    tx = FrozenTeacher().transform(5)
    update, state = jax.jit(tx.update), tx.init(params)
    for t in range(3):
        _, state = update(jax.tree.map(lambda x: x * np.nan, params), state, random_params(t))
    jax.tree.map(np.testing.assert_array_equal, bits(state.params), bits(params))
    assert int(state.step) == 3


@TEACHERS
def test_every_teacher_keeps_the_protocol(teacher):
    assert isinstance(teacher, Teacher)
    teacher.validate()
    params, updates = random_params(0), random_params(1)
    tx = teacher.transform(10)
    state = tx.init(params)
    jax.tree.map(np.testing.assert_array_equal, teacher_params((None, state)), params)
    passed, state = tx.update(updates, state, params)
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


@TEACHERS
def test_a_sharded_and_donated_teacher_is_the_same(teacher):
    rng = np.random.default_rng(0)
    students = [{"kernel": rng.normal(size=(4, 8)).astype(np.float32)} for _ in range(4)]
    tx = optax.chain(optax.identity(), teacher.transform(3))

    def update(state, student, new):
        return tx.update({"kernel": new["kernel"] - student["kernel"]}, state, student)[1]

    def run(mesh):
        state = tx.init(students[0])
        shardings = state_shardings(state, mesh)
        step = jax.jit(
            update, donate_argnums=0, in_shardings=(shardings, None, None), out_shardings=shardings
        )
        state = jax.device_put(state, shardings)
        for student, new in itertools.pairwise(students):
            before = teacher_params(state)["kernel"]
            state = step(state, student, new)
            assert before.is_deleted()
        return teacher_params(state)["kernel"]

    expected, kernel = run(make_mesh(devices=jax.devices()[:1])), run(make_mesh(fsdp=4))
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(4, 2)}
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)


@TEACHERS
def test_the_teacher_owns_its_arrays(teacher):
    params = random_params(0)
    state = teacher.transform(10).init(params)
    params["kernel"].delete()
    assert np.isfinite(state.params["kernel"]).all()


@TEACHERS
def test_params_are_needed(teacher):
    params = random_params(0)
    tx = teacher.transform(10)
    with pytest.raises(ValueError, match="the teacher needs params"):
        tx.update(params, tx.init(params))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_beta_out_of_range_is_an_error(beta):
    with pytest.raises(
        ConfigError, match=rf"^beta: got {beta}, expected a finite number > 0\. Set"
    ):
        TrajectoryTeacher(beta=beta).validate()


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
        ("update_every", 0, r"^update_every: got 0, expected at least 1 and less than 2"),
    ],
)
def test_settings_out_of_range_are_errors(field, value, message):
    teacher = EmaTeacher()
    setattr(teacher, field, value)
    with pytest.raises(ConfigError, match=message):
        teacher.validate()
