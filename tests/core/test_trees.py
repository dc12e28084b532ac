"""Names of leaves and masks by regular expression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from calib_jax.core import trees
from calib_jax.core.errors import ConfigError

TREE = {
    "encoder": {"image": {"kernel": jnp.zeros((2, 3))}, "logit_scale": jnp.zeros([])},
    "classifier": {"head": jnp.zeros(4)},
}


def test_names_are_paths_in_tree_order():
    names = ["classifier/head", "encoder/image/kernel", "encoder/logit_scale"]
    assert trees.leaf_names(TREE) == names
    assert trees.leaf_names([TREE["classifier"], 0]) == ["0/head", "1"]


def test_names_of_an_optimizer_state_end_with_those_of_the_parameters():
    names = trees.leaf_names(optax.adam(0.1).init(TREE))
    assert "0/mu/encoder/image/kernel" in names
    assert "0/nu/encoder/image/kernel" in names


def test_mask_is_true_where_any_pattern_matches_from_the_start():
    mask = trees.regex_mask(TREE, ["encoder/image", r".*/logit_scale$"])
    assert mask == {
        "encoder": {"image": {"kernel": True}, "logit_scale": True},
        "classifier": {"head": False},
    }
    assert trees.regex_mask(TREE, ["encoder"])["classifier"]["head"] is False
    assert not any(jax.tree.leaves(trees.regex_mask(TREE, [])))


def test_mask_takes_shapes():
    assert trees.regex_mask(jax.eval_shape(lambda: TREE), [".*"]) == trees.regex_mask(TREE, [".*"])


def test_a_pattern_in_the_middle_of_a_name_matches_nothing():
    with pytest.raises(ConfigError, match="regex 'kernel' matches no parameter of the 3"):
        trees.regex_mask(TREE, ["kernel"])


def test_an_unmatched_pattern_names_the_nearest_parameter():
    expected = r"'encodr/image/kernel' matches.*Did you mean 'encoder/image/kernel'\?"
    with pytest.raises(ConfigError, match=expected):
        trees.regex_mask(TREE, ["encoder", "encodr/image/kernel"])


def test_an_empty_tree_matches_nothing():
    with pytest.raises(ConfigError, match=r"of the 0 \(such as 'none'\)"):
        trees.regex_mask({}, [".*"])


def test_a_broken_pattern_is_named():
    with pytest.raises(ConfigError, match=r"'\(encoder' is not a regular expression: missing \)"):
        trees.regex_mask(TREE, ["(encoder"])


STATISTICS = {
    "norm_1": {"scale": 0, "bias": 0, "mean": 0, "var": 0},
    "block_0": {"shortcut_norm": {"mean": 0, "var": 0}, "conv_1": {"kernel": 0}},
    "head": {"mean": 0},
}


def test_statistics_of_batch_norms_are_never_trainable():
    assert trees.trainable_mask(STATISTICS, [".*"]) == {
        "norm_1": {"scale": True, "bias": True, "mean": False, "var": False},
        "block_0": {"shortcut_norm": {"mean": False, "var": False}, "conv_1": {"kernel": True}},
        "head": {"mean": True},
    }
    assert trees.trainable_mask(TREE, ["encoder"]) == trees.regex_mask(TREE, ["encoder"])
    assert [trees.is_statistic(name) for name in trees.leaf_names(STATISTICS)] == [
        *(False, True, True),  # block_0: conv_1, shortcut_norm
        *(False, False, True, False, True),  # head, norm_1: bias, mean, scale, var
    ]


def test_a_pattern_of_statistics_alone_is_an_error():
    message = r"regex '\.\*/var' matches only statistics of batch norms \(such as 'block_0/short"
    with pytest.raises(ConfigError, match=message):
        trees.trainable_mask(STATISTICS, [".*/var", "head"])


def test_count_is_the_number_of_scalars_of_arrays_and_shapes():
    assert trees.count(TREE) == 2 * 3 + 1 + 4
    assert trees.count(jax.eval_shape(lambda: TREE)) == 11


def test_interpolation_keeps_the_types_of_the_first_tree():
    first = {"w": jnp.ones(2, jnp.bfloat16), "count": np.array([0, 10])}
    second = {"w": jnp.zeros(2), "count": np.array([1, 20])}
    quarter = trees.interpolate(first, second, 0.25)
    np.testing.assert_array_equal(quarter["w"], [0.75, 0.75])
    np.testing.assert_array_equal(quarter["count"], [0, 12])
    assert (quarter["w"].dtype, quarter["count"].dtype) == (jnp.bfloat16, np.int64)
    assert isinstance(quarter["count"], np.ndarray)


def test_combination_adds_in_float32():
    leaves = [{"w": jnp.full(2, value, jnp.bfloat16)} for value in (256, 1, -256)]
    assert jnp.bfloat16(256) + jnp.bfloat16(1) == 256
    np.testing.assert_array_equal(trees.combine(lambda a, b, c: a + b + c, *leaves)["w"], [1, 1])


def test_models_of_one_architecture_have_the_same_shapes():
    check = functools.partial(trees.check_same_shapes, what="new", like="old")
    check(TREE, jax.eval_shape(lambda: TREE))
    other = {**TREE, "classifier": {"head": jnp.zeros((4, 1))}}
    expected = (
        r"new, parameter 'classifier/head': got shape \(4, 1\), expected shape \(4,\) as in old"
    )
    with pytest.raises(ConfigError, match=expected):
        check(TREE, other)
    with pytest.raises(ConfigError, match="'classifier/head': got none, expected shape"):
        check(TREE, {"encoder": TREE["encoder"]})
    with pytest.raises(ConfigError, match=r"'classifier/head': got shape \(4,\), expected none"):
        check({"encoder": TREE["encoder"]}, TREE)
