import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import WeightsError
from calib_jax.models.weights import openai, table
from calib_jax.models.weights.table import CONV, LINEAR, TensorRow

IGNORED = re.compile(r"counter")


@pytest.fixture
def loaded(vit):
    """(tensors, function that reads them)."""
    config, params = vit

    def read(tensors):
        rows = openai.rows(config)
        return table.load(tensors, rows, config, origin="file", ignored=IGNORED)

    return table.store(config, params, openai.rows(config)), read


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (TensorRow("x", ("a",)), ()),
        (TensorRow("x", ("a",), LINEAR), (3, 5)),
        (TensorRow("x", ("a",), CONV), (6, 3, 2, 4)),
        (TensorRow("x", ("a", "b", "c"), LINEAR), (6, 5)),
        (TensorRow("x", ("a", "b")), (8,)),
    ],
)
def test_a_row_stores_what_it_loads(row, shape):
    tensor = np.random.default_rng(0).normal(size=shape)
    ours = row.load(tensor)
    assert tuple(ours) == row.ours
    np.testing.assert_array_equal(row.store(ours), tensor)
    assert row.store(ours).flags.c_contiguous
    assert row.source_shape({path: x.shape for path, x in ours.items()}) == shape


def test_a_torch_kernel_computes_the_same_as_ours():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 5)), rng.normal(size=(3, 5))
    np.testing.assert_allclose(x @ TensorRow("x", ("k",), LINEAR).load(weight)["k"], x @ weight.T)


def test_nested_rows_are_inside_a_module_of_both():
    inner = table.nested(table.linear("fc", "up"), "layers.0", "block_0")
    assert [row.source for row in inner] == ["layers.0.fc.weight", "layers.0.fc.bias"]
    assert [row.ours for row in inner] == [("block_0/up/kernel",), ("block_0/up/bias",)]
    assert [row.axes for row in inner] == [LINEAR, ()]


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_other_precisions_become_float32(loaded, dtype):
    tensors, read = loaded
    got = read({name: x.astype(dtype) for name, x in tensors.items()})
    assert {x.dtype for x in got.values()} == {np.dtype("float32")}
    embedding = tensors["token_embedding.weight"].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(got["text/token_embedding"], embedding)


def test_ignored_names_and_a_scale_in_a_row(loaded):
    tensors, read = loaded
    expected = read(tensors)
    tensors |= {"counter": np.array(3, np.int64)}
    tensors["logit_scale"] = tensors["logit_scale"].reshape(1)
    jax.tree.map(np.testing.assert_array_equal, read(tensors), expected)


def test_parameters_do_not_alias_the_source(loaded, vit, assert_same):
    tensors, read = loaded
    params = table.tree_of(read(tensors))
    for x in tensors.values():
        x[...] = 0
    assert_same(params, vit[1])


def test_all_problems_are_reported_at_once(loaded):
    tensors, read = loaded
    del tensors["visual.proj"]
    del tensors["transformer.resblocks.0.ln_1.bias"]
    tensors["extra"] = np.zeros(3, np.float32)
    tensors["ln_final.weight"] = np.zeros(65, np.float32)
    tensors["ln_final.bias"] = np.full(64, np.nan, np.float32)
    tensors["visual.ln_post.bias"] = np.zeros(64, np.int32)
    tensors["logit_scale"] = np.zeros((1, 1), np.float32)
    with pytest.raises(WeightsError) as caught:
        read(tensors)
    message = str(caught.value)
    assert message.startswith("file: got 7 problem(s): visual.proj is missing; ")
    for problem in (
        "transformer.resblocks.0.ln_1.bias is missing",
        "extra is unknown",
        "ln_final.weight has shape (65,), not (64,)",
        "ln_final.bias holds NaN or infinity",
        "visual.ln_post.bias is int32, not floating-point",
        "logit_scale has shape (1, 1), not ()",
    ):
        assert problem in message
    assert message.endswith("Check which model the weights belong to.")
    assert "\n" not in message


def test_many_problems_are_counted(loaded):
    tensors, read = loaded
    others = {f"head.{i}": np.zeros(1, np.float32) for i in range(50)}
    with pytest.raises(WeightsError, match=r"got 50 problem.*head\.39 is unknown; and 10 more, "):
        read(tensors | others)


def test_params_of_another_config_are_not_stored(vit):
    config, params = vit
    others = {"image": params["image"], "logit_scale": jnp.zeros(2), "head": jnp.zeros(2)}
    with pytest.raises(WeightsError) as caught:
        table.store(config, others, openai.rows(config))
    for problem in (
        "params: got ",
        "text/token_embedding is missing",
        "head is unknown",
        "logit_scale has shape (2,), not ()",
        "Pass the config they were made with.",
    ):
        assert problem in str(caught.value)
