"""Orbax checkpoints of the state and the data iterator, with checksums of both.

Orbax writes atomically but restores a damaged payload without a word: each
array's checksum is stored beside it and compared after the restore.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import Array

from calib_jax.core.errors import CheckpointError
from calib_jax.core.trees import leaf_names

FORMAT = 2
"""Of the state and its checksums; 1 had sums made by a compiled program, and another optimizer."""


def checksums(tree: Any) -> dict[str, int]:
    """The CRC-32 of every array of a tree, by its name; the same for every sharding."""
    # On the host: a program for it would take longer to compile than a small model to train. In
    # threads, which the CRC's loop lets run at once.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        sums = [pool.submit(zlib.crc32, _host_bytes(leaf)) for leaf in jax.tree.leaves(tree)]
    return {name: each.result() for name, each in zip(leaf_names(tree), sums, strict=True)}


def _host_bytes(leaf: Array) -> memoryview:
    """The bytes of the whole array, also where each process has a part of it."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        values = np.asarray(leaf)
    else:
        values = multihost_utils.process_allgather(leaf, tiled=True)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


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
            "format": FORMAT,
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
            CheckpointError: The checkpoint cannot be read, is of another version's format, or an
                array differs from its checksum.
        """
        where = self.directory / str(step)
        advice = f"Delete {where} to go on from the checkpoint before it."
        try:
            meta = self._manager.restore(
                step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
            ).meta
            if meta.get("format", 1) != FORMAT:
                raise CheckpointError(
                    f"checkpoint {where}: got format {meta.get('format', 1)}, expected {FORMAT}: "
                    "another version of calib_jax wrote it. Go on with that version, or train "
                    "anew in another workdir."
                )
            state = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
            ).state
            damaged = _differences(state, meta)
            iterator = meta["iterator"]
        except (CheckpointError, jax.errors.JaxRuntimeError):  # the latter: such as no memory
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
        return state, iterator

    def wait(self) -> None:
        """Waits for the writer; its errors surface here."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait`, and lets go of the directory."""
        self.wait()
        self._manager.close()
