"""The declarative table of a naming of weights, and the strict reading and writing through it.

Strict both ways: a tensor without a row, a row without a tensor, a shape that does not fit or a
number that is not finite is a problem. All the problems of a file make one error.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from calib_jax.core import trees
from calib_jax.core.errors import WeightsError
from calib_jax.core.types import Params
from calib_jax.models.config import ClipConfig
from calib_jax.models.encoder import Encoder

Tensors = Mapping[str, np.ndarray]
"""The content of a file: its tensors by name."""

LINEAR = (1, 0)  # torch keeps [out, in], Flax [in, out]
CONV = (2, 3, 1, 0)  # [out, in, h, w] to [h, w, in, out]

_SHOWN = 40


@dataclass(frozen=True)
class TensorRow:
    """One tensor of the file and the parameters it holds.

    Attributes:
        source: Its name in the file, or within a module of it (see `nested`).
        ours: Paths of our parameters: the equal parts of the tensor along its first axis.
        axes: Permutation from a part's axes to ours; empty keeps them.
    """

    source: str
    ours: tuple[str, ...]
    axes: tuple[int, ...] = ()

    def load(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Returns our parameters by path."""
        parts = np.split(tensor, len(self.ours)) if len(self.ours) > 1 else [tensor]
        return {
            path: _permute(part, self.axes) for path, part in zip(self.ours, parts, strict=True)
        }

    def store(self, params: Tensors) -> np.ndarray:
        """Returns the tensor of the file: the inverse of `load`."""
        inverse = tuple(np.argsort(self.axes).tolist())
        parts = [_permute(params[path], inverse) for path in self.ours]
        return np.array(np.concatenate(parts) if len(parts) > 1 else parts[0], order="C")

    def source_shape(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Returns the tensor's shape, given the shapes of our parameters."""
        shape = shapes[self.ours[0]]
        if self.axes:
            shape = tuple(shape[i] for i in np.argsort(self.axes))
        return (shape[0] * len(self.ours), *shape[1:]) if len(self.ours) > 1 else shape


def _permute(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.transpose(x, axes) if axes else x


def linear(source: str, ours: str) -> tuple[TensorRow, TensorRow]:
    """The rows of a torch `Linear` with a bias."""
    return (
        TensorRow(f"{source}.weight", (f"{ours}/kernel",), LINEAR),
        TensorRow(f"{source}.bias", (f"{ours}/bias",)),
    )


def norm(source: str, ours: str) -> tuple[TensorRow, TensorRow]:
    """The rows of a torch `LayerNorm`."""
    return TensorRow(f"{source}.weight", (f"{ours}/scale",)), TensorRow(
        f"{source}.bias", (f"{ours}/bias",)
    )


def nested(rows: Iterable[TensorRow], source: str, ours: str) -> list[TensorRow]:
    """The rows of a module, inside the module `source` of the file and under our path `ours`."""
    return [
        dataclasses.replace(
            row, source=f"{source}.{row.source}", ours=tuple(f"{ours}/{x}" for x in row.ours)
        )
        for row in rows
    ]


def shapes_of(config: ClipConfig) -> Mapping[str, tuple[int, ...]]:
    """Returns the shape of each parameter by path; computes no numbers."""
    return _shapes_of(Encoder(config))


@functools.lru_cache(maxsize=8)
def _shapes_of(encoder: Encoder) -> Mapping[str, tuple[int, ...]]:
    """Takes a second for a large model, and reading and writing need it."""
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    return MappingProxyType({path: x.shape for path, x in _flat(params).items()})


def load(
    tensors: Tensors,
    rows: Iterable[TensorRow],
    config: ClipConfig,
    *,
    origin: str,
    ignored: re.Pattern[str],
) -> dict[str, np.ndarray]:
    """Returns our float32 parameters by path; half-precision tensors are widened.

    Args:
        tensors: The content of the file.
        rows: The table of its naming at this depth.
        config: The model that the tensors must fit.
        origin: What the errors call the file.
        ignored: Whole names of tensors that hold no parameters.

    Raises:
        WeightsError: Everything that is missing, unknown, of a wrong shape or not finite.
    """
    found = {name: x for name, x in tensors.items() if not ignored.fullmatch(name)}
    rows, shapes = list(rows), shapes_of(config)
    expected = {row.source: row.source_shape(shapes) for row in rows}
    for name, shape in expected.items():
        # Some trainers keep the logit scale as one number in a row.
        if shape == () and name in found and found[name].shape == (1,):
            found[name] = found[name].reshape(())
    problems = mismatches({name: x.shape for name, x in found.items()}, expected)
    for name, x in found.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            problems.append(f"{name} is {x.dtype}, not floating-point")
            continue
        found[name] = x.astype(np.float32, copy=False)
        if not np.isfinite(found[name]).all():
            problems.append(f"{name} holds NaN or infinity")
    raise_problems(problems, origin)
    return {path: x for row in rows for path, x in row.load(found[row.source]).items()}


def tree_of(flat: Tensors) -> Params:
    """Returns the tree of device arrays of parameters by path.

    Copies: device memory must not alias the caller's arrays, because steps donate parameters.
    """
    return traverse_util.unflatten_dict({k: jnp.array(x) for k, x in flat.items()}, sep="/")


def store(config: ClipConfig, params: Params, rows: Iterable[TensorRow]) -> dict[str, np.ndarray]:
    """Returns the float32 tensors of a file: the exact inverse of `load`.

    Raises:
        WeightsError: `params` are not those of the config.
    """
    flat = {path: np.asarray(x, np.float32) for path, x in _flat(params).items()}
    problems = mismatches({path: x.shape for path, x in flat.items()}, shapes_of(config))
    if problems:
        raise WeightsError(
            f"params: got {_listed(problems)}, expected the parameters of this config. "
            "Pass the config they were made with."
        )
    return {row.source: row.store(flat) for row in rows}


def mismatches(
    got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Returns what is missing, what is unknown, and what has another shape, in words."""
    missing = [f"{name} is missing" for name in expected if name not in got]
    unknown = [f"{name} is unknown" for name in got if name not in expected]
    wrong = [
        f"{name} has shape {got[name]}, not {shape}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    return missing + unknown + wrong


def raise_problems(problems: list[str], origin: str) -> None:
    """Passes where there are none.

    Raises:
        WeightsError: There are; all of them are counted, the first 40 listed.
    """
    if problems:
        raise WeightsError(
            f"{origin}: got {_listed(problems)}, expected every tensor of the model and no other. "
            "Check which model the weights belong to."
        )


def _listed(problems: list[str]) -> str:
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return f"{len(problems)} problem(s): {'; '.join(problems[:_SHOWN] + more)}"


def _flat(params: Params) -> dict[str, Any]:
    return dict(zip(trees.leaf_names(params), jax.tree.leaves(params), strict=True))
