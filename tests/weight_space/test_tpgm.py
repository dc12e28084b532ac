"""TPGM's projection against loops in float64, and its radii on problems with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.weight_space.tpgm import project, tpgm

SHAPES = {
    "conv/kernel": (2, 2, 3, 4),
    "dense/kernel": (3, 5),
    "embedding": (4, 3),
    "bias": (5,),
    "scale": (),
}


def draw(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def rows(name, array):
    """The rows of a leaf that MARS bounds, as a list of views into it."""
    if array.ndim < 2:
        return [array[...]]
    if name.endswith("kernel"):
        return [array[..., i] for i in range(array.shape[-1])]
    return [array[i] for i in range(len(array))]


def length(array, norm):
    total = 0.0
    for value in np.ravel(array):
        total += value * value if norm == "l2" else abs(value)
    return np.sqrt(total) if norm == "l2" else total


def project_by_loop(start, end, radii, norm):
    result = {}
    for name in start:
        move = np.array(end[name] - start[name])
        for part in [move[...]] if norm == "l2" else rows(name, move):
            part *= min(1.0, radii[name] / (length(part, norm) + 1e-8))
        result[name] = start[name] + move
    return result


@pytest.mark.parametrize("norm", ["l2", "mars"])
@pytest.mark.parametrize("radius", [0.3, 1.5, 4.0])
def test_projection_by_loop(norm, radius):
    start, end = draw(0), draw(1)
    radii = dict.fromkeys(start, radius)
    with jax.enable_x64(True):
        result = project(start, end, radii, norm=norm)
    expected = project_by_loop(start, end, radii, norm)
    for name in start:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-12, atol=1e-14)
        move = np.asarray(result[name]) - start[name]
        for part in [move] if norm == "l2" else rows(name, move):
            assert length(part, norm) <= radius * (1 + 1e-9)


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_radius_zero_is_the_pretrained_model_and_a_large_one_the_finetuned(norm):
    start, end = draw(0, np.float32), draw(1, np.float32)
    start["table"], end["table"] = np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32) * 3
    zero = project(start, end, dict.fromkeys(start, 0.0), norm=norm)
    jax.tree.map(np.testing.assert_array_equal, zero, start)
    large = project(start, end, dict.fromkeys(start, 1e6), norm=norm)
    for name in start:
        np.testing.assert_allclose(large[name], end[name], rtol=1e-5, atol=1e-6)
        assert large[name].dtype == start[name].dtype
    same = project(start, start, dict.fromkeys(start, 1.0), norm=norm)
    jax.tree.map(np.testing.assert_array_equal, same, start)


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_gradients_by_finite_differences(norm):
    start, end, weights = draw(0), draw(1), draw(2)
    radii = {name: np.float64(0.7) for name in start}

    @jax.jit
    def value(radii):
        result = project(start, end, radii, norm=norm)
        return sum(jnp.sum(jnp.sin(result[name]) * weights[name]) for name in start)

    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(value))(radii)
        for name in start:
            up, down = ({**radii, name: 0.7 + h} for h in (1e-6, -1e-6))
            slope = (value(up) - value(down)) / 2e-6
            np.testing.assert_allclose(gradients[name], slope, rtol=1e-6, atol=1e-8)


def test_the_gradient_is_whole_where_the_radius_is_the_norm():
    start, end = {"w": jnp.zeros(2)}, {"w": jnp.array([3e3, 4e3])}  # the epsilon vanishes
    gradient = jax.grad(lambda r: project(start, end, {"w": r})["w"].sum())(5e3)
    np.testing.assert_allclose(gradient, 1.4, rtol=1e-6)


def tpgm_by_loop(start, end, goal, norm, num_steps, rate):
    """Adam (0.9, 0.999, 1e-8) on the radii of `sum((w - goal)^2) / 2`."""
    radii, first, second, losses = {}, dict.fromkeys(start, 0.0), dict.fromkeys(start, 0.0), []
    lengths = {}
    for name in start:
        move = end[name] - start[name]
        parts = [move] if norm == "l2" else rows(name, move)
        lengths[name] = [length(part, norm) for part in parts]
        radii[name] = min(lengths[name]) / 2
    for t in range(1, num_steps + 1):
        now = project_by_loop(start, end, radii, norm)
        losses.append(sum(((now[name] - goal[name]) ** 2).sum() / 2 for name in start))
        for name in start:
            move, error = end[name] - start[name], now[name] - goal[name]
            split = (lambda _, x: [x]) if norm == "l2" else rows
            slope = 0.0
            for m, e, size in zip(
                split(name, move), split(name, error), lengths[name], strict=True
            ):
                if radii[name] <= size + 1e-8:
                    slope += (m * e).sum() / (size + 1e-8)
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            step = first[name] / (1 - 0.9**t)
            step /= np.sqrt(second[name] / (1 - 0.999**t)) + 1e-8
            radii[name] = min(max(radii[name] - rate * step, 0.0), max(lengths[name]))
    return radii, losses


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_the_radii_follow_adam_by_loop(norm):
    start, end, goal = draw(0), draw(1), draw(2)

    def loss(params, batch):
        return sum(jnp.sum((params[name] - batch[name]) ** 2) / 2 for name in params)

    with jax.enable_x64(True):
        found = tpgm(start, end, loss, [goal] * 25, norm=norm, learning_rate=0.1)
    radii, losses = tpgm_by_loop(start, end, goal, norm, 25, 0.1)
    for name in start:
        np.testing.assert_allclose(found.radii[name], radii[name], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-8)
    expected = project_by_loop(start, end, radii, norm)
    for name in start:
        np.testing.assert_allclose(found.params[name], expected[name], rtol=1e-7, atol=1e-9)


def test_it_goes_as_far_as_each_leaf_is_good():
    """One leaf should stay, one should move all the way, one did not move, one a third."""
    zeros = {name: jnp.zeros(4) for name in ("stay", "move", "frozen", "third")}
    moved = {name: jnp.ones(4) * (name != "frozen") for name in zeros}
    share = {"stay": -1.0, "move": 3.0, "frozen": 3.0, "third": 1 / 3}

    def loss(params, batch):
        return batch * sum(jnp.sum((params[name] - share[name]) ** 2) for name in params)

    found = tpgm(zeros, moved, loss, [jnp.float32(1)] * 200, learning_rate=0.05)
    for name, expected in {"stay": 0.0, "move": 1.0, "frozen": 0.0, "third": 1 / 3}.items():
        np.testing.assert_allclose(found.params[name], np.full(4, expected), atol=2e-3)
    assert found.losses.shape == (200,) and found.losses[-1] < found.losses[0]


def test_wrong_inputs_are_errors():
    start, end = draw(0, np.float32), draw(1, np.float32)

    def loss(params, batch):
        return params["scale"] * batch

    with pytest.raises(ConfigError, match="norm: got 'l1', expected one of l2, mars."):
        tpgm(start, end, loss, [1.0], norm="l1")
    with pytest.raises(ConfigError, match="norm: got 'l1'"):
        project(start, end, dict.fromkeys(start, 1.0), norm="l1")
    with pytest.raises(ConfigError, match=r"finetuned, parameter 'bias': got shape \(1,\)"):
        tpgm(start, {**end, "bias": np.zeros(1, np.float32)}, loss, [1.0])
    with pytest.raises(ConfigError, match="learning_rate: got 0.0, expected more than 0"):
        tpgm(start, end, loss, [1.0], learning_rate=0.0)
    with pytest.raises(ConfigError, match="batches: got none, expected one a step. Give 200."):
        tpgm(start, end, loss, [])
    with pytest.raises(
        TrainingError, match="tpgm: got a loss of nan and .* at step 1, expected finite"
    ):
        tpgm(start, end, loss, [1.0, float("nan"), 1.0])
    with pytest.raises(TrainingError, match="a loss of 0.0 and a gradient of norm nan at step 0"):
        tpgm(start, end, lambda params, _: jnp.sqrt(params["scale"] * 0), [1.0])
