"""Files in a folder, a .zip or a .tar, read by name and never unpacked."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import lzma
import os
import pathlib
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.builders.listings import (
    DiskFolder,
    File,
    Link,
    Listing,
    PackedFolder,
    listed,
    readable,
)

MAX_BYTES = 1 << 29
"""Of one file, unpacked: Pillow's largest image at 16 bits a channel, uncompressed."""

# What zipfile and tarfile raise on damaged bytes, besides their own errors.
_DAMAGE = (
    *(OSError, EOFError, ValueError, OverflowError, MemoryError, RuntimeError, IndexError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
_OTHER_METHODS = {9: "deflate64", 93: "zstandard", 95: "xz", 98: "ppmd", 99: "AES"}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_PIECE, _SMALL_PIECE = 1 << 20, 1 << 12  # bytes read at once
_UTF8_NAME, _ENCRYPTED, _DOS_FOLDER = 0x800, 1, 0x10
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field
_DOS_SYSTEMS = (0, 10, 14)  # FAT, NTFS, VFAT


class _TooLargeError(ValueError):
    pass


@dataclasses.dataclass(frozen=True)
class Archive:
    """An opened archive.

    Attributes:
        path: Where it is.
        names: Its files, `/` between folders, sorted; without those that are left out.
        folders: Its folders.
        left_out: Paths that are in no name, by the reason, in the singular: hidden files (macOS's
            copies too), broken links, special files, earlier entries of a name.
    """

    path: pathlib.Path
    names: tuple[str, ...]
    folders: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]
    _read: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataError: It is missing, damaged or larger than MAX_BYTES.
        """
        try:
            return self._read(name)
        except KeyError as error:
            raise DataError(
                f"archive {self.path}: it holds no {name}. Pass the official archive, unchanged."
            ) from error
        except _DAMAGE as error:
            fix = "Replace it" if isinstance(error, _TooLargeError) else "Download it again"
            raise DataError(
                f"archive {self.path}: {readable(name)} cannot be read: {_reason(error)}. {fix}."
            ) from error

    def only(self, name: str) -> str:
        """The one file that is called so, in whatever folder.

        Raises:
            DataError: There is none, or there are several.
        """
        found = [own for own in self.names if own == name or own.endswith(f"/{name}")]
        if len(found) != 1:
            raise DataError(
                f"archive {self.path}: got {len(found)} files {name}, expected one. "
                "Pass the official archive, or the folder that it unpacks to."
            )
        return found[0]


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[Archive]:
    """The archive, closed on leaving.

    Raises:
        ConfigError: It is missing, encrypted, a compressed tar (whose files cannot be read one by
            one), packed by a method that is not known here, damaged, or no archive at all.
        DataError: A name in it cannot be used: `listings`.
    """
    if path.is_dir():
        try:
            listing = listed(DiskFolder(str(path)), path)
        except OSError as error:
            raise ConfigError(
                f"archive {path}: {readable(str(error.filename))} cannot be listed "
                f"({error.strerror}). Correct its permissions."
            ) from error
        yield _archive(path, listing, _read_file)
        return
    if not path.is_file():
        raise ConfigError(f"archive: got {path}, but there is no such file. Correct the path.")
    if path.name.endswith((".gz", ".tgz", ".bz2", ".xz")):
        raise ConfigError(
            f"archive {path}: it is compressed as a whole. Unpack it, tar -xf, and pass the folder."
        )
    read: Callable[[Any], bytes]
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_Bounded(path))
            if not _starts_as_tar(file) and zipfile.is_zipfile(file):
                zipped = stack.enter_context(zipfile.ZipFile(file))
                top, read = _zip_folder(zipped, file, path), _zip_reader(zipped)
            else:
                file.seek(0)
                tarred = stack.enter_context(
                    tarfile.open(fileobj=file, mode="r:", encoding="utf-8")
                )
                top, read = _tar_folder(tarred, file, path), _tar_reader(tarred)
        except (ConfigError, DataError):
            raise
        except _DAMAGE as error:
            raise ConfigError(
                f"archive {path}: it is no whole .zip or .tar ({_reason(error)}). Download it "
                "again."
            ) from error
        yield _archive(path, listed(top, path), read)


def _archive(path: pathlib.Path, listing: Listing, read: Callable[[Any], bytes]) -> Archive:
    files = listing.files
    return Archive(
        path, tuple(files), listing.folders, listing.left_out, lambda name: read(files[name])
    )


class _Bounded(io.BufferedReader):
    """A file of which no more is asked than it holds: a length in it may claim anything."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(io.FileIO(path))
        self.length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self.length))


def _read_file(path: str) -> bytes:
    with _Bounded(pathlib.Path(path)) as file:
        _check_size(file.length)
        return file.read()


def _zip_folder(zipped: zipfile.ZipFile, file: _Bounded, path: pathlib.Path) -> PackedFolder:
    top = PackedFolder()
    _check_directory(zipped, file)
    for entry in zipped.infolist():
        name = _zip_name(entry)
        if name.endswith("/") or (entry.external_attr & _DOS_FOLDER and not entry.file_size):
            top.add(name, None, path)
            continue
        if entry.flag_bits & _ENCRYPTED:
            raise ConfigError(
                f"archive {path}: it is encrypted. Unpack it with its password, "
                "unzip -P PASSWORD, and pass the folder."
            )
        if entry.compress_type not in _METHODS:
            method = _OTHER_METHODS.get(entry.compress_type, f"{entry.compress_type}")
            raise ConfigError(
                f"archive {path}: {readable(name)} is compressed by the method {method}, expected "
                "store, deflate, bzip2 or lzma. Unpack it, and pass the folder."
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            target = _unzipped(zipped, entry).decode("utf-8", "surrogateescape")
            top.add(name, Link(target), path)
        else:
            top.add(name, File(entry), path)
    return top


def _check_directory(zipped: zipfile.ZipFile, file: _Bounded) -> None:
    """Raises where entries are missing: a wrong length in the directory hides what follows."""
    entries = zipped.infolist()
    file.seek(zipped.start_dir + sum(map(_directory_length, entries)))
    end, expected = file.read(40), len(entries)
    if end.startswith(b"PK\5\6"):
        counted, expected = int.from_bytes(end[10:12], "little"), expected % (1 << 16)
    else:
        counted = int.from_bytes(end[32:40], "little") if end.startswith(b"PK\6\6") else -1
    if counted != expected:
        raise zipfile.BadZipFile(f"its directory has {expected} entries of {counted}")


def _directory_length(entry: zipfile.ZipInfo) -> int:
    encoding = "utf-8" if entry.flag_bits & _UTF8_NAME else "cp437"
    return 46 + sum(map(len, (entry.orig_filename.encode(encoding), entry.extra, entry.comment)))


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """Its name as UTF-8, which macOS writes without the flag that says so."""
    name = entry.orig_filename
    if not entry.flag_bits & _UTF8_NAME:
        raw = name.encode("cp437")
        name = (_unicode_path(entry.extra, raw) or raw).decode("utf-8", "surrogateescape")
    # Some Windows tools write their own separator; elsewhere it may be part of a name.
    if "\\" in name and ("/" not in name or entry.create_system in _DOS_SYSTEMS):
        return name.replace("\\", "/")
    return name


def _unicode_path(extra: bytes, name: bytes) -> bytes:
    """The UTF-8 name that Info-ZIP puts beside one in another encoding; empty where it does not.

    Nor where it belongs to a name that the entry no longer has, by its checksum.
    """
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == _UNICODE_PATH and extra[5:9] == zlib.crc32(name).to_bytes(4, "little"):
            return extra[9 : 4 + length]  # after a version and the checksum
        extra = extra[4 + length :]
    return b""


def _zip_reader(zipped: zipfile.ZipFile) -> Callable[[zipfile.ZipInfo], bytes]:
    return lambda entry: _unzipped(zipped, entry)


def _unzipped(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    _check_size(entry.file_size)
    # What bzip2 and LZMA make of packed bytes at once has no bound in Python.
    is_bounded = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    size, pieces = _PIECE if is_bounded else _SMALL_PIECE, []
    with zipped.open(entry) as file:
        while piece := file.read(size):
            pieces.append(piece)
    data = b"".join(pieces)
    if len(data) != entry.file_size:  # zipfile says nothing where a stored file is cut short
        raise ValueError(f"it has {len(data)} bytes of {entry.file_size}")
    return data


def _starts_as_tar(file: _Bounded) -> bool:
    """Whether a tar's mark is there: one that ends with a .zip looks like a .zip too."""
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    return start[257:262] == b"ustar"


def _tar_folder(tarred: tarfile.TarFile, file: _Bounded, path: pathlib.Path) -> PackedFolder:
    top, position = PackedFolder(), -1
    for member in tarred:
        # Python's reader follows a negative size backwards, for ever (CVE-2025-8194).
        if member.size < 0 or member.offset <= position:
            raise tarfile.ReadError(f"got the size {member.size} of {readable(member.name)}")
        position = member.offset
        if member.isdir():
            top.add(member.name, None, path)
        elif member.isfile():
            top.add(member.name, File(member), path)
        elif member.issym() or member.islnk():
            top.add(member.name, Link(member.linkname, is_hard=member.islnk()), path)
        else:
            top.add(member.name, "special file", path)
    # It stops at a damaged header as at the end, which is a block of zeros.
    file.seek(tarred.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no header or end at byte {tarred.offset}")
    return top


def _tar_reader(tarred: tarfile.TarFile) -> Callable[[tarfile.TarInfo], bytes]:
    def read(member: tarfile.TarInfo) -> bytes:
        _check_size(member.size)
        file = tarred.extractfile(member)
        return file.read() if file else b""

    return read


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise _TooLargeError(f"it has {num_bytes} bytes, more than {MAX_BYTES}")


def _reason(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:200].rstrip(".")
