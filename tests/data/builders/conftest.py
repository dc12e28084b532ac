"""Trees on the disk, and archives of them with their links."""

import os
import pathlib
import stat
import tarfile
import zipfile

import pytest


@pytest.fixture(scope="session")
def packed():
    """A function that makes a .tar or a .zip of a folder, links kept; "folder" gives it back."""

    def pack(folder, kind):
        path = folder.with_suffix(f".{kind}")
        if kind == "tar":
            with tarfile.open(path, "w") as tarred:
                tarred.add(folder, ".")
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as zipped:
                for place, folders, files in os.walk(folder):
                    for name in (*folders, *files):
                        own = pathlib.Path(place, name)
                        inner = str(own.relative_to(folder))
                        if own.is_symlink():
                            entry = zipfile.ZipInfo(inner)
                            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                            zipped.writestr(entry, str(own.readlink()))
                        else:
                            zipped.write(own, inner)
        return folder if kind == "folder" else path

    return pack
