"""The same files in a folder, a .zip and a .tar, and everything that can be wrong with one."""

import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from calib_jax.core.errors import CalibJaxError, ConfigError, DataError
from calib_jax.data.builders import archives
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


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("./a/1.jpg", "a/1.jpg"),
        ("/a//1.jpg", "a/1.jpg"),
        ("a\\b\\1.jpg", "a/b/1.jpg"),
        ("caf\xe9/1.jpg", "caf\xe9/1.jpg"),
        ("cafe\u0301/1.jpg", "caf\xe9/1.jpg"),
    ],
)
def test_names_of_a_zip(tmp_path, raw, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.writestr(raw, b"one")
    data = (tmp_path / "x.zip").read_bytes()
    # macOS writes UTF-8 without the flag that says so.
    plain = data.replace(b"\x00\x00\x00\x08\x00\x00", b"\x00\x00\x00\x00\x00\x00")
    for content in (data, plain):
        (tmp_path / "x.zip").write_bytes(content)
        with open_archive(tmp_path / "x.zip") as archive:
            assert archive.names == (name,)
            assert archive.read(name) == b"one"


def test_the_utf8_name_beside_another(tmp_path):
    """It counts as long as it belongs to the name that the entry has."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        entry = zipfile.ZipInfo("cafe/1.jpg")
        name = "caf\xe9/1.jpg".encode()
        entry.extra = unicode_path(name, of=b"cafe/1.jpg")
        zipped.writestr(entry, b"one")
        entry = zipfile.ZipInfo("dog/1.jpg")
        entry.extra = unicode_path(b"cat/1.jpg", of=b"cat/1.jpg")
        zipped.writestr(entry, b"two")
    with open_archive(tmp_path / "x.zip") as archive:
        assert archive.names == ("caf\xe9/1.jpg", "dog/1.jpg")


def unicode_path(name, *, of):
    return struct.pack("<HHBI", 0x7075, 5 + len(name), 1, zlib.crc32(of)) + name


def test_a_directory_that_hides_entries(pack, tmp_path):
    """A wrong length of the first entry's comment makes the others part of it."""
    path = pack(tmp_path / "x.zip", {"a/1.jpg": b"one", "a/2.jpg": b"two"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 33] = 1
    path.write_bytes(data)
    message = r"it is no whole \.zip or \.tar \(its directory has 1 entries of 2\)\. Download it ag"
    with pytest.raises(ConfigError, match=message), open_archive(path):
        pass


@pytest.mark.many
def test_a_zip_of_many_entries(tmp_path):
    """It counts them twice: to 65,536, and beyond in another record."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        for number in range((1 << 16) + 5):
            zipped.writestr(f"{number}.jpg", b"")
    with open_archive(tmp_path / "x.zip") as archive:
        assert len(archive.names) == (1 << 16) + 5


def test_a_method_that_is_not_known(pack, tmp_path):
    path = pack(tmp_path / "x.zip", {"a/1.jpg": b"content"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 9
    path.write_bytes(data)
    message = (
        r"a/1\.jpg is compressed by the method deflate64, expected store, .*\. Unpack it, and pas"
    )
    with pytest.raises(ConfigError, match=message), open_archive(path):
        pass


def test_a_tar_that_ends_with_a_zip(pack, tmp_path):
    inner = pack(tmp_path / "inner.zip", {"b/1.jpg": b"one"}).read_bytes()
    with open_archive(pack(tmp_path / "x.tar", {"a/1.jpg": b"one", "z.zip": inner})) as archive:
        assert archive.names == ("a/1.jpg", "z.zip")


def test_a_tar_of_old(pack, tmp_path):
    """Without the mark that newer ones have."""
    path = pack(tmp_path / "x.tar", {"a/1.jpg": b"one"})
    data = bytearray(path.read_bytes())
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\x00 " % sum(data[:512])
    path.write_bytes(data)
    with open_archive(path) as archive:
        assert archive.names == ("a/1.jpg",)
        assert archive.read("a/1.jpg") == b"one"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_are_known(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as zipped:
        zipped.writestr("1.jpg", b"one" * 9000)
    with open_archive(tmp_path / "x.zip") as archive:
        assert archive.read("1.jpg") == b"one" * 9000


def sparse_tar(path, num_bytes):
    """A tar with one file of a size that it does not hold, as GNU's tar writes holes."""
    member = tarfile.TarInfo("a/1.jpg")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"00000000000\x00" * 2  # the one block: none
    header[483:495] = tarfile.itn(num_bytes, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    path.write_bytes(header + bytes(10 * 512))


def test_sizes_that_nothing_holds(tmp_path, monkeypatch):
    sparse_tar(tmp_path / "sparse.tar", 24 << 30)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a/1.jpg", bytes(1 << 20))
    (tmp_path / "folder/a").mkdir(parents=True)
    (tmp_path / "folder/a/1.jpg").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(archives, "MAX_BYTES", 1 << 16)
    tracemalloc.start()
    for name, size in (("sparse.tar", 24 << 30), ("bomb.zip", 1 << 20), ("folder", 1 << 20)):
        message = (
            rf"^archive .*: a/1\.jpg cannot be read: it has {size} bytes, more than 65536\. Rep"
        )
        with open_archive(tmp_path / name) as archive, pytest.raises(DataError, match=message):
            archive.read("a/1.jpg")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("size", [1 << 80, -512, -(1 << 40), 1 << 40])
def test_sizes_of_a_tar(tmp_path, size):
    """A negative one leads Python's reader backwards, for ever."""
    member, data = tarfile.TarInfo("a/1.jpg"), b"content"
    member.size = len(data)
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as tarred:
        for _ in range(2):
            tarred.addfile(member, io.BytesIO(data))
    content = bytearray((tmp_path / "x.tar").read_bytes())
    for start in (0, 1024):
        sign = b"\x80" if size > 0 else b"\xff"
        content[start + 124 : start + 136] = sign + size.to_bytes(11, "big", signed=True)
        content[start + 148 : start + 156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\x00 " % sum(content[start : start + 512])
    (tmp_path / "x.tar").write_bytes(content)
    message = r"^archive .*: it is no whole \.zip or \.tar \(.*\)\. Download it again\.$"
    with pytest.raises(ConfigError, match=message), open_archive(tmp_path / "x.tar"):
        pass


def test_a_damaged_header_is_no_end(pack, tmp_path):
    path = pack(tmp_path / "x.tar", {"a/1.jpg": b"one", "a/2.jpg": b"two"})
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    message = (
        r"it is no whole \.zip or \.tar \(no header or end at byte 1024\)\. Download it again\.$"
    )
    with pytest.raises(ConfigError, match=message), open_archive(path):
        pass


def check_flips(num_flips, packed, tmp_path):
    """A flipped bit gives one line, or all files: whole, renamed or named as left out."""
    rng = np.random.default_rng(0)
    top = tmp_path / "x"
    for name, length in (("a/1.jpg", 300), ("a/2.jpg", 40), ("caf\xe9/3.jpg", 90)):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(rng.integers(0, 9, length, np.uint8).tobytes())
    (top / "a/link.jpg").symlink_to("1.jpg")
    (top / "a/hard.jpg").hardlink_to(top / "a/1.jpg")
    for kind in ("tar", "zip"):
        whole = packed(top, kind).read_bytes()
        if kind == "tar":
            whole = whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 1024]
        num_read = 0
        for number in range(num_flips):
            data = bytearray(whole)
            position = int(rng.integers(8 * len(data)))
            data[position // 8] ^= 1 << position % 8
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(data)
            try:
                with open_archive(path) as archive:
                    contents = {name: archive.read(name) for name in archive.names}
                    left_out = [name for names in archive.left_out.values() for name in names]
            except CalibJaxError as error:
                assert "\n" not in str(error)
                continue
            assert len(contents) + len(left_out) == 5, (kind, position)
            num_read += 1
        assert num_read > 0


def test_flipped_bits(packed, tmp_path):
    check_flips(100, packed, tmp_path)


@pytest.mark.many
def test_many_flipped_bits(packed, tmp_path):
    check_flips(400, packed, tmp_path)
