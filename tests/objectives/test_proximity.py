import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.errors import ConfigError
from calib_jax.objectives.proximity import L2SP, squared_distance


def tree(seed):
    rng = np.random.default_rng(seed)
    norm = {"mean": rng.normal(size=3), "var": rng.normal(size=3), "scale": rng.normal(size=3)}
    return {"image": {"kernel": rng.normal(size=(4, 3)), "norm_1": norm}, "logit_scale": 2.0 + seed}


def distance_by_loop(params, start):
    total = (params["logit_scale"] - start["logit_scale"]) ** 2
    for i in range(4):
        for j in range(3):
            total += (params["image"]["kernel"][i, j] - start["image"]["kernel"][i, j]) ** 2
    for i in range(3):
        first, second = (x["image"]["norm_1"]["scale"][i] for x in (params, start))
        total += (first - second) ** 2
    return total


def test_distance_by_loop_leaves_out_the_statistics():
    params, start = tree(0), tree(1)
    with jax.enable_x64(True):
        distance = squared_distance(params, start)
        np.testing.assert_allclose(distance, distance_by_loop(params, start), rtol=1e-13)
        check_grads(squared_distance, (params, start), order=1, modes=("rev",), rtol=1e-6)
        gradient = jax.grad(squared_distance)(params, start)
    kernels = params["image"]["kernel"] - start["image"]["kernel"]
    np.testing.assert_allclose(gradient["image"]["kernel"], 2 * kernels, rtol=1e-12)
    for name in ("mean", "var"):
        np.testing.assert_array_equal(gradient["image"]["norm_1"][name], np.zeros(3))


def test_the_start_itself_and_an_empty_tree_are_at_zero():
    params = jax.tree.map(jnp.float32, tree(0))
    value, gradient = jax.value_and_grad(squared_distance)(params, params)
    assert float(value) == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert float(squared_distance({}, {})) == 0.0


@pytest.mark.parametrize("head", [0.0, 0.3])
def test_the_term_is_half_of_both_squares(views_of, head):
    params, start, kernel = tree(0), tree(1), np.arange(6.0).reshape(3, 2)
    views = views_of(
        2,
        params={"encoder": params, "classifier": {"kernel": kernel}},
        start_params={"encoder": start, "classifier": {"kernel": kernel + 9}},
    )
    expected = 0.5 * distance_by_loop(params, start) + 0.5 * head * 55.0
    np.testing.assert_allclose(L2SP(head=head)(views), expected, rtol=1e-6)


def test_a_head_without_parameters_adds_nothing(views_of):
    params = {"encoder": tree(0), "classifier": {}}
    assert float(L2SP(head=1.0)(views_of(1, params=params, start_params=params))) == 0.0


@pytest.mark.parametrize("head", [-0.1, float("nan"), float("inf")])
def test_a_head_out_of_range(head):
    with pytest.raises(ConfigError, match=rf"^head: got {head}, expected a finite number >= 0\. "):
        L2SP(head=head).validate()
    L2SP().validate()
    assert L2SP.needs == {"pretrained"}
