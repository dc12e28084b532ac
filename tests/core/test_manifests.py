"""Checksums of folders: what is listed is checked, what is not is nobody's business."""

import concurrent.futures
import logging
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from calib_jax.core import manifests
from calib_jax.core.errors import DataError, WeightsError


@pytest.fixture
def folder(tmp_path):
    """Two recorded files, and a user's notes."""
    path = tmp_path / "export"
    with manifests.recorded(path, ["model.bin", "config.json", "never written"]):
        (path / "model.bin").write_bytes(b"\0\1\2")
        (path / "config.json").write_text("{}")
    (path / "notes.txt").write_text("mine")
    return path


def check(folder, *names):
    names = names or ("model.bin", "config.json", "notes.txt", "absent")
    manifests.check([folder / name for name in names], error=WeightsError)


def lines(folder):
    return (folder / "SHA256SUMS").read_text().splitlines()


def test_what_is_recorded_passes(folder):
    check(folder)
    assert [line.split("  ")[1] for line in lines(folder)] == ["config.json", "model.bin"]
    assert not list(folder.glob("*.partial"))


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_sha256sum_reads_it(folder):
    with manifests.recorded(folder, ["a\\b\nc"]):
        (folder / "a\\b\nc").write_text("an odd name")
    check(folder, "a\\b\nc")
    command = ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=folder, check=True)


def test_another_content_is_refused_in_one_line(folder):
    (folder / "model.bin").write_bytes(b"\0\1\3")
    message = (
        r"^.*model\.bin: got another content than SHA256SUMS beside it says, expected the file as "
        r"it was written: it is damaged or edited\. Copy it again, or delete it where a run "
        r"makes it again; to take it as it is, delete its line in SHA256SUMS\.$"
    )
    with pytest.raises(WeightsError, match=message):
        check(folder)
    with pytest.raises(DataError):
        manifests.check([folder / "model.bin"], error=DataError)
    check(folder, "config.json")


def test_a_deleted_line_accepts_what_is_there(folder):
    (folder / "config.json").write_text('{"edited": true}')
    (folder / "SHA256SUMS").write_text("".join(f"{x}\n" for x in lines(folder) if "model" in x))
    check(folder)
    (folder / "model.bin").write_bytes(b"")
    (folder / "SHA256SUMS").unlink()
    check(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("  ", " *"),
        lambda text: text.upper().replace("CONFIG.JSON", "config.json").replace("MODEL.BIN", "x"),
        lambda text: "# by hand\n\n" + text.removesuffix("\n"),
        lambda text: text.replace("  ", "  ./"),
        lambda text: re.sub(r"(\w+)  (.*)", r"SHA256 (\2) = \1", text),
    ],
    ids=["windows", "byte_order_mark", "binary", "upper_case", "comment", "dotted", "tagged"],
)
def test_other_forms_of_it_are_read(folder, change):
    path = folder / "SHA256SUMS"
    path.write_bytes(change(path.read_text()).encode())
    check(folder)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(WeightsError, match="another content"):
        check(folder)


@pytest.mark.parametrize("content", [b"0123  model.bin\n", b"\xff\xfe", b"model.bin"])
def test_a_damaged_manifest_is_named(folder, content):
    (folder / "SHA256SUMS").write_bytes(content)
    message = r"SHA256SUMS: cannot be read \(.*delete this file to go without it\.$"
    with pytest.raises(WeightsError, match=message) as caught:
        check(folder)
    assert "\n" not in str(caught.value)
    # What is written anew has its line, whatever stood there.
    with manifests.recorded(folder, ["model.bin"]):
        pass
    assert [line[-9:] for line in lines(folder)] == ["model.bin"]


def test_while_a_file_is_written_it_has_no_line(folder):
    with pytest.raises(OSError, match="full"), manifests.recorded(folder, ["model.bin"]):
        (folder / "model.bin").write_bytes(b"half")
        assert [line[66:] for line in lines(folder)] == ["config.json"]
        raise OSError("the device is full")
    check(folder)
    with manifests.recorded(folder, ["config.json"]):
        (folder / "config.json").unlink()
        assert not (folder / "SHA256SUMS").exists()
    assert not (folder / "SHA256SUMS").exists()


def test_others_may_write_in_between(folder):
    """A line of what another has written meanwhile is not put back as it was."""
    with manifests.recorded(folder, ["model.bin"]):
        with manifests.recorded(folder, ["config.json"]):
            (folder / "config.json").write_text("{ }")
        (folder / "model.bin").write_bytes(b"new")
    check(folder)
    assert len(lines(folder)) == 2
    names = [f"{number}.json" for number in range(16)]

    def write(name):
        with manifests.recorded(folder, [name]):
            (folder / name).write_text(name)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(write, names))
    check(folder, *names)


def test_a_copy_a_renamed_and_a_read_only_folder_pass(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    folder.rename(tmp_path / "renamed")
    copied.chmod(0o555)
    check(copied)
    check(tmp_path / "renamed")
    copied.chmod(0o755)


def test_a_pointer_of_git_lfs_is_told(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    for name in ("model.bin", "unlisted.bin"):
        (folder / name).write_text(pointer)
        with pytest.raises(WeightsError, match=rf"{name}: got a pointer of Git LFS, .*lfs pull"):
            check(folder, name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(folder):
    (folder / "model.bin").chmod(0)
    with pytest.raises(WeightsError, match=r"model\.bin: cannot be read \(Permission denied\)"):
        check(folder)


def test_large_files_are_read_once(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(manifests, "_LARGE", 0)
    monkeypatch.setattr(manifests, "_digest", lambda path: asked.append(path) or "0" * 64)
    assert manifests.digest(folder / "model.bin") == manifests.digest(folder / "model.bin")
    assert len(asked) == 1
    (folder / "model.bin").write_bytes(b"another length")
    manifests.digest(folder / "model.bin")
    assert len(asked) == 2


def test_a_folder_without_one_is_announced_once(folder, tmp_path, caplog):
    manifests.announce_absence(folder / "model.bin")
    assert caplog.messages == []
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            manifests.announce_absence(tmp_path / "model.bin")
    assert caplog.messages == [f"{tmp_path} has no SHA256SUMS: its files are taken as they are"]


def flipped(content, rng):
    """One bit is another."""
    changed = bytearray(content)
    position = int(rng.integers(len(changed)))
    changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def check_flips(folder, number):
    """Every flip of a listed file is refused; one of the manifest may change nothing."""
    rng = np.random.default_rng(number)
    for name in ("model.bin", "SHA256SUMS"):
        content = (folder / name).read_bytes()
        for _ in range(number):
            (folder / name).write_bytes(flipped(content, rng))
            try:
                check(folder)
            except WeightsError as error:
                assert "\n" not in str(error)
            else:
                assert name == "SHA256SUMS"
        (folder / name).write_bytes(content)


def test_flips(folder):
    check_flips(folder, 100)


@pytest.mark.many
def test_many_flips(folder):
    check_flips(folder, 400)


def test_a_file_without_a_line_is_announced(folder, caplog):
    with caplog.at_level(logging.WARNING):
        manifests.announce_absence(folder / "notes.txt")
    assert caplog.messages == [
        f"{folder} has no line of notes.txt in its SHA256SUMS: its files are taken as they are"
    ]
