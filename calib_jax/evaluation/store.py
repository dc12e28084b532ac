"""What a model said of whole splits, kept: written once, checksummed, read memory-mapped."""

from __future__ import annotations

import json
import pathlib
import shutil
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from calib_jax.core import text_files
from calib_jax.core.errors import DataError
from calib_jax.core.processes import is_writer
from calib_jax.core.types import Predictions

Batches = Iterable[Mapping[str, np.ndarray]]
"""The rows of consecutive examples: `logits` [b c], `features` [b d] and `labels` [b]."""

_ABOUT = "about.json"


class Store:
    """The predictions of one model, a folder a split.

    A folder holds `logits.npy` [n c], `features.npy` [n d] and `labels.npy` [n]. Where the head has
    them, `class_embeddings.npy` [c d] lies beside, and a file for each kept score [n]. `about.json`
    has what the predictions depend on, and a CRC-32 of every file.
    """

    def __init__(self, folder: pathlib.Path, identities: Mapping[str, Mapping[str, Any]]):
        """Reads and writes nothing yet.

        Args:
            folder: The model's; it need not exist.
            identities: What the predictions of each split depend on, as JSON values. What was kept
                under the split's name of another identity is not read, and is replaced.
        """
        self.folder = folder
        self._identities = {k: json.loads(json.dumps(v)) for k, v in identities.items()}

    def read(self, split: str) -> Predictions | None:
        """The predictions of a split, memory-mapped; None where none of this identity are kept.

        Raises:
            DataError: A file is damaged; names it.
        """
        about = self._about(split)
        if about is None:
            return None
        folder = self.folder / split
        arrays = {name: _read(folder / f"{name}.npy", crc) for name, crc in about["crc32"].items()}
        return Predictions(**arrays)

    def write(
        self,
        split: str,
        batches: Batches,
        num_examples: int,
        class_embeddings: Float[np.ndarray, "c d"] | None,
    ) -> Predictions:
        """The predictions of a split, kept as soon as the last batch is there.

        Only the first of several processes keeps them; the others have them in memory.

        Args:
            split: Its name.
            batches: In the split's order; never held together in memory.
            num_examples: That they have in all.
            class_embeddings: Of the head; None where it has none.

        Raises:
            DataError: They cannot be written.
        """
        if not is_writer():
            return in_memory(batches, num_examples, class_embeddings)
        target = self.folder / split
        partial = target.with_name(f"{target.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _append(partial, batches, num_examples)
            if class_embeddings is not None:
                np.save(partial / "class_embeddings.npy", np.ascontiguousarray(class_embeddings))
            crc32 = {path.stem: _crc32(path) for path in partial.glob("*.npy")}
            about = {"identity": self._identities[split], "crc32": crc32, "scores": {}}
            _write_json(partial / _ABOUT, about)
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
        except OSError as error:
            raise DataError(
                f"predictions: {target} cannot be written ({error.strerror or error}). Make room, "
                "or set keep_predictions to false; the same command trains nothing again."
            ) from error
        return Predictions(
            **{name: _read(target / f"{name}.npy", crc) for name, crc in crc32.items()}
        )

    def read_score(
        self, split: str, name: str, identity: Mapping[str, Any]
    ) -> Float[np.ndarray, " n"] | None:
        """A score of the split's examples; None where it was not kept, or depends on other things.

        Args:
            split: Its name.
            name: The score's.
            identity: What the score depends on besides the predictions, as JSON values.

        Raises:
            DataError: The file is damaged; names it.
        """
        about = self._about(split)
        kept = None if about is None else about["scores"].get(name)
        if kept is None or kept["identity"] != json.loads(json.dumps(identity)):
            return None
        return _read(self.folder / split / kept["file"], kept["crc32"])

    def write_score(
        self,
        split: str,
        name: str,
        identity: Mapping[str, Any],
        values: Float[np.ndarray, " n"],
    ) -> None:
        """Keeps a score beside the predictions, if these are kept.

        Args:
            split: Its name.
            name: The score's.
            identity: As `read_score`.
            values: Of every example.
        """
        about = self._about(split)
        if about is None or not is_writer():
            return
        file = f"score_{zlib.crc32(name.encode()):08x}.npy"  # a name may be no file name
        path = self.folder / split / file
        np.save(path, values)
        about["scores"][name] = {"identity": identity, "file": file, "crc32": _crc32(path)}
        _write_json(self.folder / split / _ABOUT, about)

    def _about(self, split: str) -> dict[str, Any] | None:
        """What is kept of a split, if it is of this identity."""
        path = self.folder / split / _ABOUT
        if not path.exists():
            return None
        try:
            about = text_files.parse_json(path.read_text(encoding="utf-8"))
            if about["identity"] != self._identities[split]:
                return None
            if not {"logits", "features", "labels"} <= about["crc32"].keys():
                raise KeyError("crc32")
            for score in about["scores"].values():
                _ = score["identity"], score["file"], score["crc32"]
            return dict(about)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise _damaged(path) from None


def in_memory(
    batches: Batches, num_examples: int, class_embeddings: Float[np.ndarray, "c d"] | None
) -> Predictions:
    """The predictions of a split, kept nowhere; arguments as in `Store.write`."""
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for batch in batches:
        for name, rows in batch.items():
            if name not in arrays:
                arrays[name] = np.empty((num_examples, *rows.shape[1:]), rows.dtype)
            arrays[name][start : start + len(rows)] = rows
        start += len(batch["labels"])
    _check_length(start, num_examples)
    return Predictions(**arrays, class_embeddings=class_embeddings)


def num_bytes(folder: pathlib.Path) -> int:
    """What the files of a folder take, in all."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _append(folder: pathlib.Path, batches: Batches, num_examples: int) -> None:
    """Writes the arrays batch by batch."""
    files: dict[str, Any] = {}
    length = 0
    try:
        for batch in batches:
            for name, rows in batch.items():
                if name not in files:
                    files[name] = (folder / f"{name}.npy").open("wb")
                    header = np.lib.format.header_data_from_array_1_0(rows)
                    header["shape"] = (num_examples, *rows.shape[1:])
                    np.lib.format.write_array_header_1_0(files[name], header)
                files[name].write(np.ascontiguousarray(rows).tobytes())
            length += len(batch["labels"])
    finally:
        for file in files.values():
            file.close()
    _check_length(length, num_examples)


def _check_length(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"predictions: got {found} examples, expected {expected}")


def _read(path: pathlib.Path, crc32: int) -> np.ndarray:
    if not path.exists() or _crc32(path) != crc32:
        raise _damaged(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _crc32(path: pathlib.Path) -> int:
    """Of the whole file: a flip in its header reads as other numbers too."""
    checksum = 0
    with path.open("rb") as file:
        while content := file.read(1 << 22):
            checksum = zlib.crc32(content, checksum)
    return checksum


def _damaged(path: pathlib.Path) -> DataError:
    return DataError(
        f"{path}: it is damaged, or was changed. Delete the folder {path.parent} to have the "
        "predictions made again."
    )


def _write_json(path: pathlib.Path, value: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
