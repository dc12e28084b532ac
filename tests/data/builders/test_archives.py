"""The same files in a folder, a .zip and a .tar, and everything that can be wrong with one."""

import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.builders.archives import open_archive

FILES = {
    "top/b/2.png": b"two",
    "top/a/1.png": b"one",
    "top/a/.DS_Store": b"hidden",
    "__MACOSX/top/a/1.png": b"copy",
    "top/notes.txt": b"text",
}


@pytest.mark.parametrize("name", ["files", "files.zip", "files.tar"])
def test_every_kind_holds_the_same_files(pack, tmp_path, name):
    path = pack(tmp_path / name, FILES)
    with open_archive(path) as archive:
        assert archive.names == ("top/a/1.png", "top/b/2.png", "top/notes.txt")
        assert [archive.read(name) for name in archive.names] == [b"one", b"two", b"text"]
        assert archive.only("2.png") == "top/b/2.png"
        with pytest.raises(DataError, match=r"^archive .*: it holds no top/c\. Pass the official"):
            archive.read("top/c")
        with pytest.raises(DataError, match=r"got 0 files 3.png, expected one\. Pass the official"):
            archive.only("3.png")


def test_names_of_a_tar_may_start_with_a_dot(pack, tmp_path):
    with open_archive(pack(tmp_path / "x.tar", {"./a/1.png": b"one"})) as archive:
        assert archive.names == ("a/1.png",)
        assert archive.read("a/1.png") == b"one"


def test_a_damaged_file(pack, tmp_path):
    path = pack(tmp_path / "x.zip", {"a": b"content" * 2000})
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    message = r"^archive .*: a cannot be read: Bad CRC-32.*\. Download it again\."
    with open_archive(path) as archive, pytest.raises(DataError, match=message):
        archive.read("a")


def test_an_encrypted_zip(pack, tmp_path):
    path = pack(tmp_path / "x.zip", {"a": b"content"})
    data = path.read_bytes()
    directory = data.index(b"PK\x01\x02")  # the flags of the file's entry are 8 bytes further on
    path.write_bytes(data[: directory + 8] + b"\x01" + data[directory + 9 :])
    message = r"it is encrypted\. Unpack it with its password, unzip -P PASSWORD, and pass the fold"
    with pytest.raises(ConfigError, match=message), open_archive(path):
        pass


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "missing.zip",
            None,
            r"^archive: got .*missing.zip, but there is no such file. Correct the path",
        ),
        ("x.tar.gz", b"any", r"it is compressed as a whole\. Unpack it, tar -xf, and pass the fol"),
        ("x.tar", b"no tar" * 200, r"it is no whole \.zip or \.tar \(.*\)\. Download it again\."),
    ],
)
def test_no_archive(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=message), open_archive(tmp_path / name):
        pass


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_an_archive_cut_short(pack, tmp_path, name):
    path = pack(tmp_path / name, {"a": b"content" * 2000, "b": b"more" * 100})
    path.write_bytes(path.read_bytes()[:9000])
    message = r"^archive .*: it is no whole \.zip or \.tar \(.*\)\. Download it again\.$"
    with pytest.raises(ConfigError, match=message), open_archive(path):
        pass
