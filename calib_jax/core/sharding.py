"""The device mesh, and where each array of the state lives on it.

Two axes: `data` splits the batch; `fsdp` splits the batch too, and the
parameters that a rule says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from calib_jax.core.errors import ConfigError
from calib_jax.core.trees import path_name
from calib_jax.core.types import Batch

DATA_AXIS = "data"
FSDP_AXIS = "fsdp"

MAX_BATCH_SIZE = 1 << 22

Rule = tuple[str, tuple[str | None, ...]]
"""A regex on the name of a leaf, and the mesh axis that splits each of its dimensions."""


def make_mesh(*, fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh `data x fsdp` over all devices (or those given).

    Raises:
        ConfigError: `fsdp` does not divide the number of devices.
    """
    devices = list(jax.devices()) if devices is None else list(devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise ConfigError(
            f"fsdp: got {fsdp}, expected a divisor of the {len(devices)} devices. "
            "Set fsdp=1 to replicate the parameters."
        )
    return jax.make_mesh(
        (len(devices) // fsdp, fsdp),
        (DATA_AXIS, FSDP_AXIS),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The first dimension is split over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA_AXIS, FSDP_AXIS)))


def to_devices(batch: Batch, mesh: Mesh) -> Batch:
    """The global batch, made of every process's share."""
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(batched(mesh), np.asarray(leaf)), batch
    )


def check_batch_size(batch_size: int, mesh: Mesh, *, field: str) -> None:
    """Raises a ConfigError where a batch cannot be split evenly over the devices, or held."""
    if batch_size > MAX_BATCH_SIZE:
        raise ConfigError(
            f"{field}: got {batch_size}, expected at most {MAX_BATCH_SIZE:,}. Lower it."
        )
    if batch_size < 1 or batch_size % mesh.size:
        fit = max(mesh.size, round(batch_size / mesh.size) * mesh.size)
        raise ConfigError(
            f"{field}: got {batch_size}, expected a positive multiple of the {mesh.size} devices. "
            f"Set {field}={fit}."
        )


def shardings(state: Any, mesh: Mesh, rules: Sequence[Rule]) -> Any:
    """The sharding of every leaf of an abstract state, from the first rule that matches its name.

    A dimension that the axis does not divide is replicated: a small model runs
    on any mesh.

    Raises:
        ConfigError: No rule matches a leaf, or a rule has more dimensions than the leaf.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, _spec(path_name(path), leaf.shape, mesh, rules)),
        state,
    )


def _spec(name: str, shape: tuple[int, ...], mesh: Mesh, rules: Sequence[Rule]) -> PartitionSpec:
    for pattern, axes in rules:
        if not re.match(pattern, name):
            continue
        if len(axes) > len(shape):
            raise ConfigError(
                f"sharding rule {pattern!r}: got {len(axes)} axes for {name!r} of shape {shape}. "
                "Make the rule more specific."
            )
        return PartitionSpec(
            *(
                axis if axis is not None and size % mesh.shape[axis] == 0 else None
                for axis, size in zip(axes, shape, strict=False)
            )
        )
    raise ConfigError(
        f"sharding rules: no rule matches {name!r}. Add ('.*', ()) as the last row to replicate it."
    )
