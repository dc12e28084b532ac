"""Predictions of any framework, read from files: `.npz`, `.npy` and Parquet."""

import contextlib
import importlib
import math
import pathlib
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from calib_jax.core import inputs
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.metrics.outcomes import Kind

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0}

KINDS: tuple[Kind, ...] = ("logits", "probs")

# What NumPy, zipfile and pyarrow raise. The header of an array is parsed as Python.
_DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, MemoryError, OverflowError),
    *(SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def read_predictions(path: pathlib.Path) -> tuple[Kind, tuple[np.ndarray, np.ndarray]]:
    """What the scores of a file are, they themselves [n c], and the labels [n].

    Raises:
        ConfigError: The file is missing or of an unknown kind, or Parquet cannot be read here.
        DataError: It is damaged, lacks an array, or holds none of these shapes and types.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ConfigError(
            f"{path}: got the suffix {path.suffix!r}, expected {', '.join(readers)}. Save the "
            "arrays with numpy.savez(path, logits=logits, labels=labels)."
        )
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file. Correct the path.")
    with _readable(path):
        kind, (scores, labels) = readers[path.suffix](path)
    with located({"": path}):
        inputs.check_shapes(scores, labels, name=kind)
        inputs.check_labels(labels, num_classes=scores.shape[1])
    return kind, (scores, labels)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
    """Errors about what the file holds are DataErrors with its path."""
    try:
        yield
    except (ConfigError, DataError):
        raise
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if re.search("Object arrays|Python objects", reason):  # NumPy's words; no damage
            raise DataError(
                f"{path}: got an array of Python objects, expected numbers. Save the scores as "
                "floats, in rows of one length, and the labels as integers."
            ) from None
        raise DataError(f"{path}: cannot be read ({reason}). Write it again.") from error


@contextlib.contextmanager
def located(files: Mapping[str, pathlib.Path]) -> Iterator[None]:
    """Errors about a split begin with its file, among `files` by what they call the split."""
    try:
        yield
    except DataError as error:
        for place, path in files.items():
            if re.match(rf"{re.escape(place)}(logits|probs|labels): ", str(error)):
                raise DataError(f"{path}: {error}") from None
        raise


def _read_npy(path: pathlib.Path) -> tuple[Kind, tuple[np.ndarray, np.ndarray]]:
    kind = _kind_of(path, [path.stem.rpartition("_")[2]])
    labels = path.with_name(f"{path.stem.removesuffix(kind)}labels.npy")
    if not labels.is_file():
        raise ConfigError(f"{path}: its labels are missing, expected {labels.name} beside it.")
    return kind, (_load_npy(path, mmap_mode="r"), _load_npy(labels))


def _load_npy(path: pathlib.Path, *, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    with _readable(path):
        with path.open("rb") as opened:
            _check_header(opened, path.stat().st_size)
        found = np.load(path, mmap_mode=mmap_mode)
    if isinstance(found, np.ndarray):
        return found
    found.close()
    raise DataError(
        f"{path}: got the arrays of an .npz file, expected one array. Save it with numpy.save."
    )


def _read_npz(path: pathlib.Path) -> tuple[Kind, tuple[np.ndarray, np.ndarray]]:
    with path.open("rb") as opened:  # NumPy leaves a damaged one open
        file = np.load(opened)
        if isinstance(file, np.ndarray):
            raise DataError(
                f"{path}: got one array, as in an .npy file, expected logits (or probs) and "
                "labels. Save them with numpy.savez(path, logits=logits, labels=labels)."
            )
        kind = _kind_of(path, file.files)
        _check_has(path, "labels", file.files)
        for name in (kind, "labels"):
            _check_member(path, file.zip, name)
        scores, labels = file[kind], file["labels"]
    if not isinstance(scores, np.ndarray) or not isinstance(labels, np.ndarray):
        raise DataError(
            f"{path}: got files that hold no array, expected .npy files. Save them with "
            "numpy.savez(path, logits=logits, labels=labels)."
        )
    return kind, (scores, labels)


def _check_member(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> None:
    """Raises where there are two arrays of the name, or a header that claims what is not there."""
    members = [one for one in archive.infolist() if one.filename in (name, f"{name}.npy")]
    if len(members) > 1:
        raise DataError(
            f"{path}: got {len(members)} arrays {name!r}, expected one. Save the file again."
        )
    with archive.open(members[0]) as opened:
        _check_header(opened, members[0].file_size)


def _check_header(opened: Any, size: int) -> None:
    """Raises a ValueError where an array's header claims more bytes than there are."""
    try:
        version = np.lib.format.read_magic(opened)
    except ValueError:
        return  # no array, which is said where it is read
    # A header of version 3 differs in its encoding alone.
    shape, _, dtype = _READ_HEADER.get(version, np.lib.format.read_array_header_2_0)(opened)
    if any(isinstance(length, bool) or length < 0 for length in shape):
        raise ValueError(f"its header says {shape}, expected numbers")
    # NumPy multiplies in 64 bits, in which a length of 0 at the end comes too late.
    least = math.prod(length for length in shape if length) * max(1, dtype.itemsize)
    if not dtype.hasobject and least > size:
        raise ValueError(f"its header says {shape} of {dtype}, more than there is")


def _read_parquet(path: pathlib.Path) -> tuple[Kind, tuple[np.ndarray, np.ndarray]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet needs pyarrow, which is not there. Run: pip install pyarrow"
        ) from None
    table = parquet.read_table(path)
    names = table.column_names
    kind = _kind_of(path, [{"logit_0": "logits", "prob_0": "probs"}.get(n, n) for n in names])
    _check_has(path, "label", names)
    empty = [name for name in names if table.column(name).null_count]
    if empty or not table.num_rows:
        what = f"the column {empty[0]!r} has entries that are null" if empty else "it has no rows"
        raise DataError(f"{path}: {what}. Write a number in every row.")
    labels = table.column("label").to_numpy()
    if kind in names:
        try:
            return kind, (np.stack(table.column(kind).to_numpy()), labels)
        except ValueError:
            raise DataError(
                f"{path}: got rows of different lengths in the column {kind!r}, expected one "
                "length. Write a number for every class in each row."
            ) from None
    # A column `logit_scale` beside them is none of them.
    numbered = sum(re.fullmatch(rf"{kind[:-1]}_\d+", name) is not None for name in names)
    columns = [f"{kind[:-1]}_{k}" for k in range(numbered)]
    for column in columns:
        _check_has(path, column, names)
    return kind, (np.stack([table.column(column).to_numpy() for column in columns], axis=1), labels)


def _kind_of(path: pathlib.Path, names: Sequence[str]) -> Kind:
    found: list[Kind] = [kind for kind in KINDS if kind in names]
    if len(found) != 1:
        raise DataError(
            f"{path}: got {' and '.join(found) or 'neither logits nor probs'} (it has "
            f"{', '.join(names) or 'no such name'}), expected one of them. Name it so."
        )
    return found[0]


def _check_has(path: pathlib.Path, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise DataError(f"{path}: got no {name!r}, only {', '.join(names)}. Add it.")
