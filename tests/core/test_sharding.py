"""Meshes, rules, and the errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from calib_jax.core import sharding
from calib_jax.core.errors import ConfigError


def test_mesh_spans_all_devices_with_automatic_axes():
    mesh = sharding.make_mesh(fsdp=2)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2}
    assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)
    assert dict(sharding.make_mesh().shape) == {"data": 8, "fsdp": 1}
    assert sharding.make_mesh(devices=jax.devices()[:1]).size == 1


@pytest.mark.parametrize("fsdp", [0, -1, 3, 16])
def test_mesh_of_the_wrong_size(fsdp):
    message = rf"fsdp: got {fsdp}, expected a divisor of the 8 devices. Set fsdp=1"
    with pytest.raises(ConfigError, match=message):
        sharding.make_mesh(fsdp=fsdp)


def test_batches_are_split_over_both_axes_and_the_rest_replicated():
    mesh = sharding.make_mesh(fsdp=2)
    batch = jax.device_put(np.arange(16), sharding.batched(mesh))
    assert [shard.data.tolist() for shard in batch.addressable_shards] == [
        [2 * i, 2 * i + 1] for i in range(8)
    ]
    whole = jax.device_put(np.arange(16), sharding.replicated(mesh))
    assert {shard.data.shape for shard in whole.addressable_shards} == {(16,)}


@pytest.mark.parametrize("batch_size", [8, 64])
def test_a_batch_that_fits_passes(batch_size):
    sharding.check_batch_size(batch_size, sharding.make_mesh(), field="training.batch_size")


@pytest.mark.parametrize(("batch_size", "fit"), [(0, 8), (-4, 8), (3, 8), (13, 16), (100, 96)])
def test_a_batch_that_does_not_fit(batch_size, fit):
    message = (
        rf"training.batch_size: got {batch_size}, expected a positive multiple of the 8 devices. "
        rf"Set training.batch_size={fit}\."
    )
    with pytest.raises(ConfigError, match=message):
        sharding.check_batch_size(batch_size, sharding.make_mesh(), field="training.batch_size")


def test_the_first_rule_that_matches_counts():
    tree = {"kernel": jnp.zeros((8, 8))}
    rules = (("kernel", ("fsdp", None)), (".*", (None, "fsdp")))
    found = sharding.shardings(tree, sharding.make_mesh(fsdp=8), rules)
    assert found["kernel"].spec == P("fsdp", None)


def test_a_rule_with_too_many_axes_is_named():
    message = r"rule '\.\*': got 2 axes for 'bias' of shape \(8,\)\. Make the rule more specific"
    with pytest.raises(ConfigError, match=message):
        sharding.shardings({"bias": jnp.zeros(8)}, sharding.make_mesh(), ((".*", (None, "fsdp")),))


def test_a_leaf_without_a_rule_is_named():
    with pytest.raises(ConfigError, match=r"no rule matches 'bias'\. Add \('\.\*', \(\)\)"):
        sharding.shardings({"bias": jnp.zeros(8)}, sharding.make_mesh(), (("x", ()),))


def test_to_devices_splits_the_batch(tiny_batches):
    _, batch_of = tiny_batches
    batch = sharding.to_devices(batch_of(0), sharding.make_mesh())
    assert len(batch.image.sharding.device_set) == 8
    assert batch.image.addressable_shards[0].data.shape[0] == 2
    np.testing.assert_array_equal(batch.image, batch_of(0).image)
