"""What lies in a folder or in an archive: one rule for names, links and copies.

Names are UTF-8, in Unicode's form NFC: macOS and Linux write the same name differently. Links are
followed, as torchvision's `ImageFolder` does; what cannot be followed is left out and listed.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from calib_jax.core.errors import DataError

MAX_DEPTH = 256
"""Folders within folders."""

MAX_FOLDERS = 1_000_000
"""In all: links to folders of links could lead to any number of them."""

_MAX_LINKS = 40  # that a path may lead through, as in Linux


@dataclasses.dataclass(frozen=True)
class File:
    """A file.

    Attributes:
        source: What its archive reads it by.
    """

    source: Any


@dataclasses.dataclass(frozen=True)
class Link:
    """A link of an archive.

    Attributes:
        target: What it points to.
        is_hard: From the archive's root, not from the link's folder.
    """

    target: str
    is_hard: bool = False


@runtime_checkable
class Place(Protocol):
    """A folder that can be listed; `key` is the same however it is reached."""

    @property
    def key(self) -> Hashable:
        """What tells it from other folders."""

    def children(self) -> Iterable[tuple[str, File | Place | str]]:
        """Names and what they stand for, links followed; a text says why one is left out."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What was found, by paths with `/` between folders.

    Attributes:
        files: The sources of the files, sorted by path.
        folders: All folders, without those that hidden ones hold.
        left_out: Paths by the reason, in the singular.
    """

    files: Mapping[str, Any]
    folders: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]


def readable(name: str) -> str:
    r"""The name on one line: bytes that are no UTF-8 as `\xe9`, an end of a line as `\n`."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(top: Place, path: pathlib.Path) -> Listing:
    """What lies in a folder and below.

    Args:
        top: The folder.
        path: Of the archive, for messages.

    Raises:
        DataError: A name is no UTF-8, or two in one folder are the same in NFC; or folders are
            nested too deeply, or too many.
    """
    files: dict[str, Any] = {}
    folders: list[str] = []
    left_out: dict[str, list[str]] = collections.defaultdict(list)
    pending: list[tuple[str, Place, frozenset[Hashable]]] = [("", top, frozenset([top.key]))]
    while pending:
        prefix, place, above = pending.pop()
        raw_names: dict[str, str] = {}
        for raw, child in place.children():
            if raw.startswith(".") or raw == "__MACOSX":
                left_out["hidden file"].append(prefix + raw + "/" * _is_folder(child))
                continue
            name = _text(raw, prefix, path)
            if raw_names.setdefault(name, raw) != raw:
                raise DataError(
                    f"archive {path}: got {ascii(raw_names[name])} and {ascii(raw)} in "
                    f"{readable(prefix) or '.'}, which are one name in Unicode's form NFC. Merge "
                    "them."
                )
            if isinstance(child, str):
                left_out[child].append(prefix + name)
            elif isinstance(child, File):
                files[prefix + name] = child.source
            elif child.key in above:
                left_out["circular link"].append(prefix + name)
            else:
                folders.append(prefix + name)
                _check_depth(len(above), readable(prefix + name), path)
                if len(folders) > MAX_FOLDERS:
                    raise DataError(
                        f"archive {path}: got more than {MAX_FOLDERS:,} folders, the last "
                        f"{readable(prefix + name)[:80]}. Remove links between folders."
                    )
                pending.append((f"{prefix}{name}/", child, above | {child.key}))
    reasons = {reason: tuple(sorted(names)) for reason, names in left_out.items()}
    return Listing(dict(sorted(files.items())), tuple(sorted(folders)), reasons)


def _is_folder(child: File | Place | str) -> bool:
    return not isinstance(child, File | str)


def _text(raw: str, prefix: str, path: pathlib.Path) -> str:
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"archive {path}: got the name '{readable(prefix + raw)}', expected UTF-8. "
            "Unpack it if it is packed, rename it (convmv -f ISO-8859-1 -t UTF-8), and pass the "
            "folder."
        ) from None
    return unicodedata.normalize("NFC", raw)


def _check_depth(depth: int, name: str, path: pathlib.Path) -> None:
    if depth > MAX_DEPTH:
        raise DataError(
            f"archive {path}: got {name[:40]}..., {depth} folders deep, expected at most "
            f"{MAX_DEPTH}. Correct it."
        )


class DiskFolder:
    """A folder of the file system."""

    def __init__(self, path: str) -> None:
        """The folder at a path."""
        self._path = path
        found = pathlib.Path(path).stat()
        self.key = (found.st_dev, found.st_ino)

    def children(self) -> Iterator[tuple[str, File | Place | str]]:
        """As `Place.children`; a file's source is its path."""
        with os.scandir(self._path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            yield entry.name, self._child(entry)

    @staticmethod
    def _child(entry: os.DirEntry[str]) -> File | Place | str:
        try:
            if entry.is_dir():
                return DiskFolder(entry.path)
            if entry.is_file():
                return File(entry.path)
            entry.stat()
        except OSError:  # its target is missing, or leads back to itself
            return "broken link"
        return "special file"


class PackedFolder:
    """A folder of an archive, filled entry by entry; the last of one name counts."""

    def __init__(self, parent: PackedFolder | None = None) -> None:
        """An empty folder."""
        self._parent = parent
        self._entries: dict[str, File | Link | PackedFolder | str] = {}
        self._num_overwritten: collections.Counter[str] = collections.Counter()

    @property
    def key(self) -> Hashable:
        """As `Place.key`."""
        return id(self)

    def add(self, name: str, entry: File | Link | str | None, path: pathlib.Path) -> None:
        """Puts an entry where its name says.

        Args:
            name: In the archive; a leading `/` or `./` counts for nothing.
            entry: A file, a link, why it is left out, or None: a folder.
            path: Of the archive, for messages.

        Raises:
            DataError: The name leads out of the archive or through a file.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise DataError(
                f"archive {path}: got the entry '{readable(name)}', which leads out of its folder. "
                "Unpack it, and pass the folder."
            )
        _check_depth(len(parts), readable(name), path)
        folder, folders = self, parts if entry is None else parts[:-1]
        for part in folders:
            inner = folder._entries.setdefault(part, PackedFolder(folder))
            if not isinstance(inner, PackedFolder):
                raise DataError(
                    f"archive {path}: got the entry '{readable(name)}', but '{readable(part)}' is "
                    "no folder there. Pack it again."
                )
            folder = inner
        if entry is None or not parts:
            return
        if isinstance(entry, Link) and entry.is_hard:
            # To what is there now: a later entry of that name is another file. GNU tar writes what
            # it meets twice as a link to itself.
            entry = self._file_at(entry.target) or entry
            if entry is folder._entries.get(parts[-1]):
                return
        if isinstance(folder._entries.get(parts[-1]), PackedFolder):
            raise DataError(
                f"archive {path}: got the entry '{readable(name)}', which is a folder too. "
                "Pack it again."
            )
        folder._num_overwritten[parts[-1]] += parts[-1] in folder._entries
        folder._entries[parts[-1]] = entry

    def _file_at(self, name: str) -> File | None:
        """The file of this name, if there is one so far."""
        found: File | Link | PackedFolder | str | None = self
        for part in name.split("/"):
            if part not in ("", "."):
                found = found._entries.get(part) if isinstance(found, PackedFolder) else None
        return found if isinstance(found, File) else None

    def children(self) -> Iterator[tuple[str, File | Place | str]]:
        """As `Place.children`; a file's source is that of its entry."""
        for name, entry in sorted(self._entries.items(), key=lambda item: item[0]):
            yield name, self._followed(entry) if isinstance(entry, Link) else entry
            for _ in range(self._num_overwritten[name]):
                yield name, "overwritten file"

    def _followed(self, link: Link) -> File | Place | str:
        """What a link leads to; it may lead through others."""
        here, parts, num_links = self, collections.deque[str](), 0
        entry: File | Link | PackedFolder | str | None = link
        while True:
            if isinstance(entry, Link):
                num_links += 1
                is_absolute = entry.target.startswith("/") and not entry.is_hard
                if num_links > _MAX_LINKS or is_absolute:
                    return "broken link"
                parts.extendleft(reversed(entry.target.split("/")))
                entry = here._top() if entry.is_hard else here
            while parts and parts[0] in ("", "."):
                parts.popleft()
            if entry is None or (parts and not isinstance(entry, PackedFolder)):
                return "broken link"
            if not isinstance(entry, PackedFolder) or not parts:
                return entry
            here, part = entry, parts.popleft()
            entry = here._parent if part == ".." else here._entries.get(part)

    def _top(self) -> PackedFolder:
        folder = self
        while folder._parent is not None:
            folder = folder._parent
        return folder
