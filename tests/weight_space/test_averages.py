"""WiSE-FT, soups and Model Stock against loops in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.weight_space.averages import (
    ALPHAS,
    CurvePoint,
    choose_alpha,
    greedy_soup,
    model_stock,
    uniform_soup,
    wise_ft,
    wise_ft_curve,
)


def draw(seed, dtype=np.float64):
    """A kernel, statistics of a batch norm, an integer table, a scale without axes."""
    rng = np.random.default_rng(seed)
    return {
        "image": {
            "kernel": rng.normal(size=(3, 4)).astype(dtype),
            "norm": {"mean": rng.normal(size=4).astype(dtype), "var": rng.random(4).astype(dtype)},
        },
        "logit_scale": np.asarray(rng.normal(), dtype),
        "table": rng.integers(-50, 50, 5),
    }


def equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def close(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


@pytest.mark.parametrize("on_device", [False, True])
def test_wise_ft_is_exact_at_the_ends_and_a_mean_in_the_middle(on_device):
    first, last = draw(0, np.float32), draw(1, np.float32)
    if on_device:
        first, last = jax.tree.map(jnp.asarray, (first, last))
    equal(wise_ft(first, last, 0.0), first)
    equal(wise_ft(first, last, 1.0), last)
    middle = wise_ft(first, last, 0.25)
    for name in ("kernel", "norm"):
        expected = jax.tree.map(
            lambda a, b: 0.75 * a + 0.25 * b, first["image"][name], last["image"][name]
        )
        close(middle["image"][name], expected, rtol=1e-6)
    expected = np.round(0.75 * first["table"] + 0.25 * last["table"])
    np.testing.assert_array_equal(middle["table"], expected)
    assert jax.tree.map(lambda x: x.dtype, middle) == jax.tree.map(lambda x: x.dtype, first)


def test_the_curve_keeps_the_order_and_evaluates_the_interpolations():
    first, last = {"w": np.zeros(2)}, {"w": np.array([1.0, 2.0])}
    curve = wise_ft_curve(first, last, lambda p: {"sum": float(p["w"].sum())})
    assert [point.alpha for point in curve] == list(ALPHAS) == [i / 10 for i in range(11)]
    np.testing.assert_allclose([point.metrics["sum"] for point in curve], 3 * np.array(ALPHAS))
    short = wise_ft_curve(first, last, lambda p: {"sum": p["w"].sum()}, alphas=(0.5, 0.0))
    assert short == [CurvePoint(0.5, {"sum": 1.5}), CurvePoint(0.0, {"sum": 0.0})]


def test_the_alpha_of_the_best_value_and_of_equals_the_smallest():
    rows = [(0.8, 0.9, 0.3), (0.2, 0.7, 0.1), (0.4, 0.9, 0.1), (1.0, 0.1, 0.2)]
    curve = [CurvePoint(alpha, {"accuracy": a, "ece": e}) for alpha, a, e in rows]
    assert choose_alpha(curve, "accuracy", higher_is_better=True) == 0.4
    assert choose_alpha(curve, "ece", higher_is_better=False) == 0.2


def test_wrong_alphas_and_curves_are_errors():
    tree = draw(0)
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=rf"alpha: got {alpha}, expected a number in 0..1"):
            wise_ft(tree, tree, alpha)
    with pytest.raises(ConfigError, match="alpha: got 2.0"):
        wise_ft_curve(tree, tree, lambda _: pytest.fail("too early"), alphas=(0.5, 2.0))
    with pytest.raises(ConfigError, match="curve: got no points"):
        choose_alpha([], "ece", higher_is_better=False)
    curve = [CurvePoint(0.5, {"accuracy": float("nan")})]
    with pytest.raises(ConfigError, match=r"key: got 'acuracy'.*Did you mean 'accuracy'\?"):
        choose_alpha(curve, "acuracy", higher_is_better=True)
    with pytest.raises(DataError, match=r"accuracy at alpha 0.5: got nan, expected a finite"):
        choose_alpha(curve, "accuracy", higher_is_better=True)


def test_uniform_soup_is_the_mean():
    models = [draw(seed) for seed in range(5)]
    soup = uniform_soup(models)
    total = models[0]
    for model in models[1:]:
        total = jax.tree.map(np.add, total, model)
    expected = jax.tree.map(lambda x: x / 5, total)
    np.testing.assert_array_equal(soup["table"], np.round(expected["table"]))
    close({**soup, "table": 0}, {**expected, "table": 0}, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_soup_of_equal_models_is_the_model(count):
    model = draw(0, np.float32)
    equal(uniform_soup([model] * count), model)
    soup = greedy_soup([model] * count, lambda _: 0.5)
    equal(soup.params, model)
    assert soup.members == tuple(range(count))


def test_a_soup_in_bfloat16_adds_in_float32():
    models = [{"w": jnp.full(3, value, jnp.bfloat16)} for value in (256, 1, 1, 1)]
    np.testing.assert_array_equal(uniform_soup(models)["w"], np.float32([64.75] * 3).round())
    assert uniform_soup(models)["w"].dtype == jnp.bfloat16


def greedy_by_loop(models, score):
    order = sorted(range(len(models)), key=lambda i: (-score(models[i]), i))
    chosen, best = [], -np.inf
    for i in order:
        value = score({"w": np.mean([models[j]["w"] for j in [*chosen, i]], axis=0)})
        if value >= best:
            chosen, best = [*chosen, i], value
    return chosen, best


@pytest.mark.parametrize("seed", range(8))
def test_greedy_soup_adds_what_does_not_lower_the_score(seed):
    rng = np.random.default_rng(seed)
    models = [{"w": rng.normal(size=6)} for _ in range(7)]
    goal, calls = rng.normal(size=6), []

    def score(model):
        calls.append(model)
        return np.float32(-np.abs(model["w"] - goal).max())

    soup = greedy_soup(models, score)
    assert len(calls) == 2 * len(models) - 1
    members, best = greedy_by_loop(models, score)
    assert soup.members == tuple(members)
    np.testing.assert_allclose(soup.score, best, rtol=1e-6)
    np.testing.assert_allclose(
        soup.params["w"], np.mean([models[i]["w"] for i in members], axis=0), rtol=1e-12
    )
    assert soup.score >= max(score(model) for model in models)


def test_greedy_soup_refuses_scores_that_are_not_finite():
    with pytest.raises(DataError, match=r"score of models\[0\]: got nan"):
        greedy_soup([draw(0)], lambda _: float("nan"))
    scores = iter([0.5, 0.6, float("inf")])
    with pytest.raises(DataError, match=r"score of the soup of models \[1, 0\]: got inf"):
        greedy_soup([draw(0), draw(1)], lambda _: next(scores))


def stock_by_loop(start, leaves):
    moves = [np.ravel(leaf - start) for leaf in leaves]
    cosines = []
    for a, b in itertools.combinations(moves, 2):
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        cosines.append(a @ b / lengths if lengths else 0.0)
    cosine = max(np.mean(cosines), 0.0)
    k = len(leaves)
    t = k * cosine / (1 + (k - 1) * cosine)
    return t * np.mean(leaves, axis=0) + (1 - t) * start


@pytest.mark.parametrize("count", [2, 3, 5])
def test_model_stock_by_loop(count):
    start = {k: v for k, v in draw(0).items() if k != "table"}
    models = []
    for seed in range(count):
        moved = draw(seed + 1)
        models.append(
            jax.tree.map(lambda w, m: w + 1 + 0.5 * m, start, {k: moved[k] for k in start})
        )
    models[1]["image"]["norm"]["mean"] = start["image"]["norm"]["mean"]  # not moved
    result = model_stock(start, models)
    close(result, jax.tree.map(lambda w, *x: stock_by_loop(w, x), start, *models), rtol=1e-10)


def test_model_stock_at_its_limits():
    start, model = draw(0, np.float32), draw(1, np.float32)
    close(model_stock(start, [model] * 3), model, rtol=1e-5, atol=1e-6)
    equal(model_stock(start, [start, start]), start)
    zero = {"w": np.zeros(2)}
    axes = [{"w": np.array([1.0, 0.0])}, {"w": np.array([0.0, 2.0])}]
    equal(model_stock(zero, axes), zero)  # orthogonal: all noise
    # Opposite moves: the formula divides by zero.
    equal(model_stock(zero, [{"w": np.array([1.0, 0.5])}, {"w": np.array([-2.0, -1.0])}]), zero)
    # By hand: cos = 0.6, t = 1.2 / 1.6, mean = (0.8, 0.4).
    tilted = [{"w": np.array([1.0, 0.0])}, {"w": np.array([0.6, 0.8])}]
    np.testing.assert_allclose(model_stock(zero, tilted)["w"], [0.6, 0.3])


@pytest.mark.parametrize("combine", [uniform_soup, lambda m: greedy_soup(m, lambda _: 0.0)])
def test_soups_need_models_of_one_architecture(combine):
    with pytest.raises(ConfigError, match="models: got 0, expected at least 1. Add some."):
        combine([])
    other = draw(1)
    other["image"]["norm"]["mean"] = np.zeros(1)  # would broadcast
    expected = r"models\[2\], parameter 'image/norm/mean': got shape \(1,\), expected shape \(4,\) "
    with pytest.raises(ConfigError, match=expected + r"as in models\[0\]"):
        combine([draw(0), draw(2), other])


def test_model_stock_and_wise_ft_need_models_of_one_architecture():
    with pytest.raises(ConfigError, match="models: got 1, expected at least 2"):
        model_stock(draw(0), [draw(1)])
    without = {k: v for k, v in draw(0).items() if k != "logit_scale"}
    expected = r"models\[0\], parameter 'logit_scale': got shape \(\), expected none as in pretrain"
    with pytest.raises(ConfigError, match=expected):
        model_stock(without, [draw(1), draw(2)])
    expected = r"finetuned, parameter 'logit_scale': got none, expected shape \(\) as in pretrained"
    with pytest.raises(ConfigError, match=expected):
        wise_ft(draw(0), without, 0.5)
