"""Tiny archives with the layout of the official ones."""

import io
import tarfile
import zipfile

import numpy as np
import pytest

from calib_jax.data.builders import record


@pytest.fixture(scope="session")
def pack():
    """A function that writes files, {name: bytes}, to a .zip, a .tar or a folder."""

    def write(path, files):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as zipped:
                for name, data in files.items():
                    zipped.writestr(name, data)
        elif path.suffix == ".tar":
            with tarfile.open(path, "w") as tarred:
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tarred.addfile(member, io.BytesIO(data))
        else:
            for name, data in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(data)
        return path

    return write


@pytest.fixture(scope="session")
def picture():
    """A function that makes a PNG of one shade."""

    def make(shade, side=4):
        return record.png_bytes(np.full((side, side, 3), shade, np.uint8))

    return make
