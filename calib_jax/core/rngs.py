"""Stateless random keys: a key is a pure function of the seed, the step and a name."""

from __future__ import annotations

import zlib

import jax
from jaxtyping import Array, Int, Key


def key(seed: int | Int[Array, ""], step: int | Int[Array, ""], name: str) -> Key[Array, ""]:
    """The random key of `name` at `step`: the same after a resume as in a straight run."""
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(named, step)
