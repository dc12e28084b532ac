"""Names, links and copies of entries: the same in a folder, a .zip and a .tar."""

import io
import os
import tarfile
import zipfile

import pytest

from calib_jax.core.errors import DataError
from calib_jax.data.builders import listings
from calib_jax.data.builders.archives import open_archive


def test_links_lead_to_the_same_files_in_every_kind(packed, tmp_path):
    top = tmp_path / "x"
    (top / "a/inner").mkdir(parents=True)
    (top / "b").mkdir()
    (top / "a/1.jpg").write_bytes(b"one")
    (top / "a/inner/2.jpg").write_bytes(b"two")
    (top / "a/hard.jpg").hardlink_to(top / "a/1.jpg")
    (top / "b/soft.jpg").symlink_to("../a/./inner/../1.jpg")
    (top / "b/twice.jpg").symlink_to("soft.jpg")
    (top / "c").symlink_to("a/inner")
    (top / "b/through.jpg").symlink_to("../c/2.jpg")
    (top / "b/gone.jpg").symlink_to("../../outside.jpg")
    (top / "b/itself.jpg").symlink_to("itself.jpg")
    (top / "b/file.jpg").symlink_to("../a/1.jpg/2.jpg")
    (top / "a/up").symlink_to("..")
    os.mkfifo(top / "b/pipe.jpg")
    for kind in ("folder", "tar"):
        with open_archive(packed(top, kind)) as archive:
            assert {name: archive.read(name) for name in archive.names} == {
                "a/1.jpg": b"one",
                "a/hard.jpg": b"one",
                "a/inner/2.jpg": b"two",
                "b/soft.jpg": b"one",
                "b/through.jpg": b"two",
                "b/twice.jpg": b"one",
                "c/2.jpg": b"two",
            }
            assert archive.left_out == {
                "broken link": ("b/file.jpg", "b/gone.jpg", "b/itself.jpg"),
                "circular link": ("a/up",),
                "special file": ("b/pipe.jpg",),
            }
            assert archive.folders == ("a", "a/inner", "b", "c")
    (top / "b/pipe.jpg").unlink()
    with open_archive(packed(top, "zip")) as zipped:
        assert zipped.names == archive.names and zipped.folders == archive.folders
        assert zipped.read("b/through.jpg") == b"two"


def test_an_absolute_link_of_a_tar_leads_nowhere(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/1.jpg").symlink_to("/etc/hostname")
    with tarfile.open(tmp_path / "x.tar", "w") as tarred:
        tarred.add(tmp_path / "x", ".")
    with open_archive(tmp_path / "x.tar") as archive:
        assert archive.left_out == {"broken link": ("1.jpg",)}


def latin_zip(path):
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("caf@/1.jpg", b"one")
    path.write_bytes(path.read_bytes().replace(b"caf@", b"caf\xe9"))


def latin_tar(path):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tarred:
        tarred.addfile(tarfile.TarInfo("caf\xe9/1.jpg"))


def latin_folder(path):
    os.makedirs(os.fsencode(path) + b"/caf\xe9")  # noqa: PTH103


@pytest.mark.parametrize(
    ("name", "write"),
    [("x.zip", latin_zip), ("x.tar", latin_tar), ("x", latin_folder)],
)
def test_names_in_another_encoding(tmp_path, name, write):
    write(tmp_path / name)
    message = (
        r"^archive .*: got the name 'caf\\xe9', expected UTF-8\. Unpack it if it is packed, re"
    )
    with pytest.raises(DataError, match=message), open_archive(tmp_path / name):
        pass


def test_two_forms_of_one_name(pack, tmp_path):
    files = {"a/caf\xe9/1.jpg": b"one", "a/cafe\u0301/2.jpg": b"two"}
    message = (
        r"^archive .*: got 'cafe\\u0301' and 'caf\\xe9' in a/, which are one name in Unicode's "
        r"form NFC\. Merge them\."
    )
    for name in ("x", "x.zip", "x.tar"):
        with pytest.raises(DataError, match=message), open_archive(pack(tmp_path / name, files)):
            pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_the_last_entry_of_a_name_counts(tmp_path, name):
    entries = [("a/1.jpg", b"old"), ("a/2.jpg", b"two"), ("./a/1.jpg", b"new")]
    if name == "x.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as zipped:
            for own, data in entries:
                zipped.writestr(own, data)
    else:
        with tarfile.open(tmp_path / name, "w") as tarred:
            for own, data in entries:
                member = tarfile.TarInfo(own)
                member.size = len(data)
                tarred.addfile(member, io.BytesIO(data))
    with open_archive(tmp_path / name) as archive:
        assert archive.names == ("a/1.jpg", "a/2.jpg")
        assert archive.read("a/1.jpg") == b"new"
        assert archive.left_out == {"overwritten file": ("a/1.jpg",)}


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["../1.jpg"],
            r"got the entry '\.\./1\.jpg', which leads out of its folder\. Unpack it, and",
        ),
        (
            ["a", "a/1.jpg"],
            r"got the entry 'a/1\.jpg', but 'a' is no folder there\. Pack it again\.",
        ),
        (["a/1.jpg", "a"], r"got the entry 'a', which is a folder too\. Pack it again\."),
        (
            ["a/" * 300 + "1.jpg"],
            r"got a/a/.*\.\.\., 301 folders deep, expected at most 256\. Corre",
        ),
    ],
)
def test_entries_that_no_folder_holds(pack, tmp_path, name, files, message):
    path = pack(tmp_path / name, dict.fromkeys(files, b""))
    with pytest.raises(DataError, match=rf"^archive .*: {message}"), open_archive(path):
        pass


def test_links_between_folders_that_double_at_each_step(tmp_path, monkeypatch):
    """Thirty folders, each with two links to the next: 2 ** 30 of them."""
    monkeypatch.setattr(listings, "MAX_FOLDERS", 1000)
    for number in range(30):
        folder = tmp_path / "x" / f"f{number:02}"
        folder.mkdir(parents=True)
        for side in "ab":
            (folder / side).symlink_to(f"../f{number + 1:02}")
    message = r"^archive .*x: got more than 1,000 folders, the last .*\. Remove links between fold"
    with pytest.raises(DataError, match=message), open_archive(tmp_path / "x"):
        pass


def write_tar(path, *members):
    """Of (name, content) or (name, link): a hard link to that name."""
    with tarfile.open(path, "w") as tarred:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.LNKTYPE, content
                tarred.addfile(entry)
            else:
                entry.size = len(content)
                tarred.addfile(entry, io.BytesIO(content))
    return path


def test_what_gnu_tar_meets_twice_is_a_link_to_itself(tmp_path):
    """As of `tar -cf x.tar w w/cat`."""
    path = write_tar(
        tmp_path / "x.tar",
        *[("w/cat/0.png", b"cat"), ("w/dog/0.png", b"dog")],
        *[("w/cat/0.png", "w/cat/0.png"), ("./w/dog/0.png", "w/dog/0.png")],
    )
    with open_archive(path) as archive:
        assert {name: archive.read(name) for name in archive.names} == {
            "w/cat/0.png": b"cat",
            "w/dog/0.png": b"dog",
        }
        assert not archive.left_out


def test_a_hard_link_is_to_what_was_there(tmp_path):
    """A later member of the same name is another file; a link before its target leads there too."""
    path = write_tar(
        tmp_path / "x.tar",
        *[("a/0.png", b"first"), ("b/0.png", "a/0.png"), ("a/0.png", b"second")],
        *[("early.png", "late.png"), ("late.png", b"late")],
    )
    with open_archive(path) as archive:
        assert {name: archive.read(name) for name in archive.names} == {
            "a/0.png": b"second",
            "b/0.png": b"first",
            "early.png": b"late",
            "late.png": b"late",
        }
