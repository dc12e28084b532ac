"""Orbax checkpoints of the state and the data iterator, with checksums of both.

Orbax writes atomically but restores a damaged payload without a word: each
array's checksum is stored beside it and compared after the restore.
"""

from __future__ import annotations

import json
import logging
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import Array, UInt32

from calib_jax.core.errors import CheckpointError
from calib_jax.core.trees import leaf_names

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


def _checksum(leaf: Array) -> UInt32[Array, ""]:
    """`sum_i (2 i + 1) word_i mod 2^32`: any single changed word changes it, on any sharding."""
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)
    index = jnp.arange(words.size, dtype=jnp.uint32).reshape(words.shape)
    return jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)


@jax.jit
def _checksums(leaves: list[Array]) -> list[UInt32[Array, ""]]:
    return [_checksum(leaf) for leaf in leaves]


def checksums(tree: Any) -> dict[str, int]:
    """A 32-bit checksum of every array of a tree, by its name; the same for every sharding."""
    values = jax.device_get(_checksums(jax.tree.leaves(tree)))
    return {name: int(value) for name, value in zip(leaf_names(tree), values, strict=True)}


def _crc32(value: Any) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _differences(state: Any, meta: dict[str, Any]) -> list[str]:
    """What differs from the checksums that were stored with it."""
    expected = meta["checksums"]
    names = [name for name, value in checksums(state).items() if expected.get(name) != value]
    return names + [
        title
        for key, title in (("iterator", "the data iterator"), ("config", "the config"))
        if _crc32(meta[key]) != meta[f"{key}_crc32"]
    ]


class Checkpoints:
    """The checkpoints of one training, in one directory: number n is the state after n updates."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        config: Mapping[str, Any] | None = None,
        max_to_keep: int = 2,
    ):
        """Opens the directory, making it where it is missing.

        Args:
            directory: One training's own.
            config: Of the run, as JSON values; every checkpoint holds it.
            max_to_keep: How many of the newest checkpoints stay.
        """
        self.directory = directory.absolute()
        self._config = dict(config or {})
        # Orbax warns at every start that no multi-host options are set.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=max_to_keep, create=True),
        )

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, iterator: dict[str, Any]) -> None:
        """Writes a checkpoint in the background.

        Raises:
            CheckpointError: Orbax did not take it, because the step exists already.
        """
        meta = {
            "iterator": iterator,
            "iterator_crc32": _crc32(iterator),
            "config": self._config,
            "config_crc32": _crc32(self._config),
            "checksums": checksums(state),
        }
        saved = self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
        )
        if not saved:
            raise CheckpointError(
                f"checkpoint {self.directory / str(step)}: not written, because it exists. "
                "Use a new workdir."
            )

    def restore(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        """The state and the iterator's state of a checkpoint, verified.

        Args:
            step: An existing step.
            target: Shapes, dtypes and shardings of the state.

        Raises:
            CheckpointError: The checkpoint cannot be read, or an array differs from its checksum.
        """
        where = self.directory / str(step)
        advice = f"Delete {where} to go on from the checkpoint before it."
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore()
                ),
            )
            damaged = _differences(restored.state, restored.meta)
            iterator = restored.meta["iterator"]
        except jax.errors.JaxRuntimeError:  # such as no memory: the files may be sound
            raise
        except Exception as error:
            # Any: on damaged metadata Orbax fails in whichever line meets it, assertions included.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise CheckpointError(
                f"checkpoint {where}: cannot be read: {reason}. {advice}"
            ) from error
        if damaged:
            raise CheckpointError(
                f"checkpoint {where}: {len(damaged)} of its arrays differ from their checksums, "
                f"first {damaged[0]!r}: the files are damaged. {advice}"
            )
        return restored.state, iterator

    def close(self) -> None:
        """Waits for the writer; its errors surface here."""
        self._manager.wait_until_finished()
        self._manager.close()
