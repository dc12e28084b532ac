import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.optim.optimizers import AdamW, make_optimizer, schedule_of
from calib_jax.optim.teacher import EmaTeacher, TeacherState, teacher_params


def random_tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        "encoder": {
            "image": {
                "kernel": scale * rng.normal(size=(4, 3)),
                "bias": scale * rng.normal(size=3),
            },
            "text": {"kernel": scale * rng.normal(size=(3, 3))},
            "logit_scale": scale * rng.normal(),
        },
        "classifier": {"kernel": scale * rng.normal(size=(3, 2))},
    }


def float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def scheduled_rate(step, *, peak, warmup_steps, num_steps):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / (num_steps - warmup_steps)
    return peak * 0.5 * (1 + np.cos(np.pi * done))


def adamw_by_hand(params, gradients, settings, num_steps):
    """Loshchilov and Hutter's algorithm 2 in float64, decay on every leaf."""
    leaves, structure = jax.tree.flatten(params)
    first = [np.zeros_like(x) for x in leaves]
    second = [np.zeros_like(x) for x in leaves]
    for t, gradient in enumerate(gradients):
        rate = scheduled_rate(
            t,
            peak=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            num_steps=num_steps,
        )
        for k, g in enumerate(jax.tree.leaves(gradient)):
            first[k] = settings.b1 * first[k] + (1 - settings.b1) * g
            second[k] = settings.b2 * second[k] + (1 - settings.b2) * g**2
            m = first[k] / (1 - settings.b1 ** (t + 1))
            v = second[k] / (1 - settings.b2 ** (t + 1))
            step = m / (np.sqrt(v) + settings.epsilon) + settings.weight_decay * leaves[k]
            leaves[k] = leaves[k] - rate * step
    return jax.tree.unflatten(structure, leaves)


def run(settings, params, gradients, *, trainable=(".*",), teacher=None, num_steps=None):
    tx = make_optimizer(
        settings,
        params,
        num_steps=num_steps or len(gradients),
        trainable=trainable,
        teacher=teacher,
    )

    @jax.jit
    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(tx.init)(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


def test_adamw_against_float64():
    settings = AdamW(learning_rate=0.02, weight_decay=0.3, b1=0.8, b2=0.95, warmup_steps=3)
    params, gradients = random_tree(0), [random_tree(seed, 0.1) for seed in range(1, 11)]
    expected = adamw_by_hand(params, gradients, settings, 10)
    result, _ = run(settings, float32(params), [float32(g) for g in gradients])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6), result, expected
    )


def rates(schedule, steps):
    """The learning rates at some steps."""
    return [schedule._replace(step=np.int32(step)).learning_rate() for step in steps]


def test_the_schedule_in_the_state_is_optax_with_a_schedule():
    """Keeping the schedule's numbers in the state changes nothing but the last bit."""
    settings = AdamW(learning_rate=3e-3, weight_decay=0.2, warmup_steps=2)
    params = float32(random_tree(0))
    gradients = [float32(random_tree(seed)) for seed in range(1, 6)]
    schedule = settings.schedule(5)
    plain = optax.adamw(
        lambda count: schedule._replace(step=count).learning_rate(),
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.2,
    )
    apart = make_optimizer(settings, params, num_steps=5, trainable=(".*",), teacher=None)
    first, second = jax.jit(plain.update), jax.jit(apart.update)
    state, other = plain.init(params), apart.init(params)
    for gradient in gradients:
        expected, state = first(gradient, state, params)
        updates, other = second(gradient, other, params)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9), updates, expected
        )
    assert [int(number) for number in schedule_of(other)[2:]] == [2, 5]
    assert int(schedule_of(other).step) == 5


@pytest.mark.parametrize("teacher", [None, EmaTeacher()])
def test_all_schedules_are_one_program(teacher):
    """The length is one of the teacher's numbers too."""
    params = float32(random_tree(0))

    def program(num_steps=9, **settings):
        tx = make_optimizer(
            AdamW(**settings),
            params,
            num_steps=num_steps,
            trainable=("classifier/",),
            teacher=teacher,
        )
        return jax.jit(tx.update).lower(params, tx.init(params), params).as_text()

    assert program(learning_rate=1e-3) == program(learning_rate=3e-5, warmup_steps=3)
    assert program(learning_rate=1e-3) != program(learning_rate=1e-3, weight_decay=0.0)
    assert (program() == program(num_steps=7)) == (teacher is None)


def test_weight_decay_reaches_every_leaf():
    """Without gradients each leaf, biases and the logit scale too, shrinks by prod(1 - lr wd)."""
    settings = AdamW(learning_rate=0.1, weight_decay=0.5, warmup_steps=2)
    params = float32(random_tree(0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    result, _ = run(settings, params, [zeros] * 4)
    expected = [scheduled_rate(t, peak=0.1, warmup_steps=2, num_steps=4) for t in range(4)]
    factor = np.prod(1 - 0.5 * np.array(expected))
    assert factor < 0.95
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, factor * y, rtol=1e-6), result, params)


@pytest.mark.parametrize(("warmup_steps", "num_steps"), [(0, 7), (1, 7), (3, 8), (500, 25_030)])
def test_schedule_by_hand(warmup_steps, num_steps):
    schedule = AdamW(learning_rate=1e-5, warmup_steps=warmup_steps).schedule(num_steps)
    steps = np.unique(np.linspace(0, num_steps - 1, 8).astype(int))
    expected = [
        scheduled_rate(t, peak=1e-5, warmup_steps=warmup_steps, num_steps=num_steps) for t in steps
    ]
    # Near the end the cosine cancels: an absolute error of a few eps of the peak.
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-6, atol=1e-12)
    traced = jax.jit(jax.vmap(lambda step: schedule._replace(step=step).learning_rate()))(
        jnp.asarray(steps, jnp.int32)
    )
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, expected, rtol=1e-6, atol=1e-12)


def test_golden_learning_rates(golden_dir):
    golden = np.load(golden_dir / "flyp_trajectory.npz")
    settings = AdamW(learning_rate=float(golden["lr"]), warmup_steps=int(golden["warmup_steps"]))
    found = rates(settings.schedule(6), range(6))
    np.testing.assert_allclose(found, golden["learning_rates"], rtol=1e-6)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_frozen_leaves_keep_their_bits(clip_norm):
    settings = AdamW(learning_rate=0.1, weight_decay=0.5, warmup_steps=1, clip_norm=clip_norm)
    params = float32(random_tree(0))
    gradients = [float32(random_tree(seed)) for seed in range(1, 4)]
    result, state = run(
        settings,
        params,
        gradients,
        trainable=("encoder/image/", "classifier/"),
        teacher=EmaTeacher(),
    )
    for name in ("text", "logit_scale"):
        for tree in (result, teacher_params(state)):
            jax.tree.map(
                np.testing.assert_array_equal, tree["encoder"][name], params["encoder"][name]
            )
    moved = (result["encoder"]["image"], result["classifier"])
    before = (params["encoder"]["image"], params["classifier"])
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool(np.all(x != y)), moved, before)))


def test_statistics_of_batch_norms_keep_their_bits():
    """Neither their gradient nor decay moves them, and they do not shrink a clipped step."""
    settings = AdamW(learning_rate=0.1, weight_decay=0.5, warmup_steps=1, clip_norm=0.5)
    rng = np.random.default_rng(0)
    names = ("scale", "bias", "mean", "var")
    params, gradient = (
        {"norm_1": {name: jnp.asarray(rng.normal(size=3), jnp.float32) for name in names}}
        for _ in range(2)
    )
    huge = {"norm_1": {**gradient["norm_1"], "mean": jnp.full(3, 1e6)}}
    results = [run(settings, params, [g], num_steps=10)[0]["norm_1"] for g in (gradient, huge)]
    jax.tree.map(np.testing.assert_array_equal, *results)
    for name in names:
        moved = np.any(results[0][name] != params["norm_1"][name])
        assert moved == (name in ("scale", "bias")), name


def test_only_trainable_leaves_have_moments():
    params = float32(random_tree(0))
    tx = make_optimizer(AdamW(), params, num_steps=1000, trainable=("classifier/",), teacher=None)
    sizes = [x.size for x in jax.tree.leaves(tx.init(params)) if x.ndim]
    assert sizes == [6, 6]  # the classifier's two moments


def test_clipping_counts_the_trainable_gradient_only():
    """Frozen gradients, however large, do not shrink the step of the others."""
    settings = AdamW(
        learning_rate=0.1, weight_decay=0.0, epsilon=1.0, warmup_steps=1, clip_norm=0.5
    )
    params, gradient = random_tree(0), random_tree(1)
    gradient["encoder"]["text"]["kernel"] *= 1e6
    trainable = ("encoder/image/", "classifier/")
    result, _ = run(
        settings, float32(params), [float32(gradient)], trainable=trainable, num_steps=10
    )
    kept = [gradient["encoder"]["image"], gradient["classifier"]]
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(kept)))
    assert norm > 0.5
    # With epsilon = 1 the first step is lr g / (|g| + 1): it depends on the gradient's length.
    clipped = gradient["classifier"]["kernel"] * 0.5 / norm
    expected = params["classifier"]["kernel"] - 0.1 * clipped / (np.abs(clipped) + 1)
    np.testing.assert_allclose(result["classifier"]["kernel"], expected, rtol=1e-5)


def test_a_norm_below_the_bound_is_not_clipped():
    params, gradients = float32(random_tree(0)), [float32(random_tree(1, 1e-3))]
    plain, _ = run(AdamW(warmup_steps=1), params, gradients, num_steps=10)
    clipped, _ = run(AdamW(warmup_steps=1, clip_norm=100.0), params, gradients, num_steps=10)
    jax.tree.map(np.testing.assert_array_equal, plain, clipped)


def test_the_teacher_stands_last_where_there_is_one():
    params = float32(random_tree(0))
    for teacher in (None, EmaTeacher()):
        tx = make_optimizer(AdamW(), params, num_steps=1000, trainable=(".*",), teacher=teacher)
        state = tx.init(params)
        assert isinstance(state[-1], TeacherState) == (teacher is not None)
        assert (teacher_params(state) is None) == (teacher is None)


def test_a_regex_that_matches_nothing_is_an_error():
    params = float32(random_tree(0))
    with pytest.raises(ConfigError, match=r"trainable: regex 'encoder/imgae' matches no parameter"):
        make_optimizer(AdamW(), params, num_steps=9, trainable=("encoder/imgae",), teacher=None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "learning_rate",
            -1.0,
            r"learning_rate: got -1.0, expected a finite number > 0. Cor",
        ),
        ("learning_rate", float("inf"), r"learning_rate: got inf, expected a finite"),
        ("weight_decay", float("nan"), r"weight_decay: got nan, expected a finite"),
        ("clip_norm", -0.1, r"clip_norm: got -0.1, expected a finite number >= 0"),
        ("warmup_steps", -1, r"warmup_steps: got -1, expected a finite number >= 0"),
        ("b1", 1.0, r"b1: got 1.0, expected a number in \[0, 1\)"),
        ("b2", float("nan"), r"b2: got nan, expected a number in \[0, 1\)"),
        ("epsilon", 0.0, r"epsilon: got 0.0, expected a finite number > 0"),
        ("epsilon", float("nan"), r"epsilon: got nan, expected a finite number > 0"),
        ("warmup_steps", 1000, r"warmup_steps: got 1000, expected fewer than the 1000"),
    ],
)
def test_settings_out_of_range_are_errors(field, value, message):
    settings = AdamW()
    setattr(settings, field, value)
    with pytest.raises(ConfigError, match=message):
        settings.validate(1000)


def test_the_defaults_are_valid():
    AdamW().validate(25_030)
    AdamW(warmup_steps=0, weight_decay=0.0).validate(1)
