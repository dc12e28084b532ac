"""Checksums of a folder's files, in a text file that `sha256sum -c` reads.

What this library writes for later is listed there, and checked before it is read. A file that is
not listed, as notes of the user's, is nobody's business.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from calib_jax.core import text_files
from calib_jax.core.errors import CalibJaxError

MANIFEST = "SHA256SUMS"
"""The name of the file, one of the usual ones."""

_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)", re.DOTALL)
_TAGGED_LINE = re.compile(r"(\\?)SHA256 \((.+)\) = ([0-9a-fA-F]{64})", re.DOTALL)
_POINTER = b"version https://git-lfs.github.com/"
# A smaller file may be written again within one tick of the clock, at the same size.
_LARGE = 1 << 26
_SPECIAL = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}  # as coreutils writes them
_announced: set[Path] = set()


@contextlib.contextmanager
def recorded(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Files of the folder are written inside; their lines come when all of them are there.

    Until then they have none, so that an end in between leaves no line of other content. After an
    error those that are as they were have theirs again.

    Args:
        folder: Made where it is missing.
        names: Of the files; those that are not there afterwards get no line.
    """
    names = sorted(set(names))
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_or_none(folder)
    kept = {name: value for name, value in before.items() if name not in names}
    _write(folder, kept)
    try:
        yield
    except Exception:
        found = _digests(folder, names).items()
        _write(folder, kept | {name: value for name, value in found if before.get(name) == value})
        raise
    # Read anew: others may have written other files of the folder.
    others = {name: value for name, value in _read_or_none(folder).items() if name not in names}
    _write(folder, others | _digests(folder, names))


def check(paths: Iterable[Path], *, error: type[CalibJaxError]) -> None:
    """Passes when each file is as the manifest beside it says, or is not listed there.

    Args:
        paths: Of files, which may be missing.
        error: What is raised.

    Raises:
        CalibJaxError: A file has other content, or only points to its content. Or the manifest
            itself cannot be read.
    """
    for path in paths:
        if not path.is_file():
            continue
        try:
            expected = _read(path.parent).get(path.name)
        except (OSError, ValueError) as damage:
            raise error(
                f"{path.parent / MANIFEST}: cannot be read ({damage}), expected lines of "
                "`sha256sum`. Copy the folder again, or delete this file to go without it."
            ) from None
        try:
            is_pointer = _is_pointer(path)
            is_same = expected is None or digest(path) == expected
        except OSError as damage:
            raise error(
                f"{path}: cannot be read ({damage.strerror}), expected a readable file. Copy it "
                "again."
            ) from None
        if is_pointer:
            raise error(
                f"{path}: got a pointer of Git LFS, expected the file itself. Run `git lfs pull` "
                "in the folder's repository."
            )
        if not is_same:
            raise error(
                f"{path}: got another content than {MANIFEST} beside it says, expected the file "
                "as it was written: it is damaged or edited. Copy it again, or delete it where a "
                f"run makes it again; to take it as it is, delete its line in {MANIFEST}."
            )


def announce_absence(path: Path) -> None:
    """Says, once a process, that nothing tells whether a file is whole."""
    folder = path.absolute().parent
    if path.name in _read_or_none(folder) or folder in _announced:
        return
    _announced.add(folder)
    lacks = f"no line of {path.name} in its" if (folder / MANIFEST).is_file() else "no"
    logging.getLogger("calib_jax").warning(
        "%s has %s %s: its files are taken as they are", folder, lacks, MANIFEST
    )


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: digest(folder / name) for name in names if (folder / name).is_file()}


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; of a large one it is computed once a process."""
    about = path.stat()
    if about.st_size < _LARGE:
        return _digest(path)
    return _digest_of_large(path.absolute(), about.st_size, about.st_mtime_ns, about.st_ino)


@functools.lru_cache(maxsize=256)
def _digest_of_large(path: Path, *_: int) -> str:
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _read(folder: Path) -> dict[str, str]:
    """The checksums by name; none where there is no manifest."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(text_files.lines(path.read_bytes()), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if match := _LINE.fullmatch(line):
            escaped, value, name = match.groups()
        elif match := _TAGGED_LINE.fullmatch(line):
            escaped, name, value = match.groups()
        else:
            raise ValueError(f"line {number} is {line[:40]!r}")
        found[(_plain(name) if escaped else name).removeprefix("./")] = value.lower()
    return found


def _read_or_none(folder: Path) -> dict[str, str]:
    """As `_read`; none where it cannot be read: the files that it lists go unchecked then."""
    try:
        return _read(folder)
    except (OSError, ValueError):
        return {}


def _write(folder: Path, checksums: Mapping[str, str]) -> None:
    path = folder / MANIFEST
    if not checksums:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(f"{MANIFEST}.{os.getpid()}.{threading.get_ident()}.partial")
    partial.write_text("".join(_line(*item) for item in sorted(checksums.items())), "utf-8")
    partial.replace(path)


def _line(name: str, value: str) -> str:
    plain = "".join(_SPECIAL.get(letter, letter) for letter in name)
    return f"{'' if plain == name else chr(92)}{value}  {plain}\n"


def _plain(name: str) -> str:
    letters = {escape: letter for letter, escape in _SPECIAL.items()}
    return re.sub(r"\\[\\nr]", lambda found: letters[found[0]], name)
