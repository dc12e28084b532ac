"""Files in a folder, a .zip or a .tar, read by name and never unpacked."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

from calib_jax.core.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Archive:
    """An opened archive.

    Attributes:
        path: Where it is.
        names: Its files, `/` between folders, sorted; without hidden ones and macOS's copies.
    """

    path: pathlib.Path
    names: tuple[str, ...]
    _read: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataError: It is missing or damaged.
        """
        try:
            return self._read(name)
        except KeyError as error:
            raise DataError(
                f"archive {self.path}: it holds no {name}. Pass the official archive, unchanged."
            ) from error
        except (OSError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
            raise DataError(
                f"archive {self.path}: {name} cannot be read: {error}. Download it again."
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
            one), or no archive at all.
    """
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file())
        names = [file.relative_to(path).as_posix() for file in files]
        yield Archive(path, _visible(names), lambda name: _read_file(path / name))
    elif not path.is_file():
        raise ConfigError(f"archive: got {path}, but there is no such file. Correct the path.")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            entries = [entry for entry in zipped.infolist() if not entry.is_dir()]
            if any(entry.flag_bits & 1 for entry in entries):
                raise ConfigError(
                    f"archive {path}: it is encrypted. Unpack it with its password, "
                    "unzip -P PASSWORD, and pass the folder."
                )
            yield Archive(path, _visible([e.filename for e in entries]), zipped.read)
    else:
        with _open_tar(path) as (tarred, members):
            yield Archive(
                path, _visible(list(members)), lambda name: _read_member(tarred, members[name])
            )


def _read_file(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise KeyError(path.name) from error


def _read_member(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tarred.extractfile(member)
    return file.read() if file else b""


@contextlib.contextmanager
def _open_tar(path: pathlib.Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]]:
    """A tar and its files by their paths, all of which have been looked at."""
    if path.name.endswith((".gz", ".tgz", ".bz2", ".xz")):
        raise ConfigError(
            f"archive {path}: it is compressed as a whole. Unpack it, tar -xf, and pass the folder."
        )
    with contextlib.ExitStack() as stack:
        try:
            tarred = stack.enter_context(tarfile.open(path, "r:"))
            members = {m.name.removeprefix("./"): m for m in tarred.getmembers() if m.isfile()}
        except tarfile.TarError as error:
            raise ConfigError(
                f"archive {path}: it is no whole .zip or .tar ({error}). Download it again."
            ) from error
        yield tarred, members


def _visible(names: list[str]) -> tuple[str, ...]:
    return tuple(
        sorted(
            name
            for name in names
            if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
        )
    )
