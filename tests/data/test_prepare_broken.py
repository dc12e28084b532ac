"""Images that cannot be decoded: named before anything is written, or left out and counted."""

import json
import re

import pytest
import tensorflow_datasets as tfds

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.prepare import main, prepare


def cut(picture):
    """A PNG without its last bytes."""
    return picture(3, side=9)[:-25]


@pytest.mark.parametrize("check", [True, False])
def test_a_file_that_is_no_image(pack, picture, tmp_path, check):
    files = {"dog/a.png": picture(1), "dog/b.jpg": b"not an image"}
    message = (
        r"^archive: dog/b.jpg is not an image of a known format \(got 12 bytes, .*\)\. Replace"
    )
    with pytest.raises(DataError, match=message):
        prepare("image_folder/pets", tmp_path / "data", pack(tmp_path / "x", files), check=check)
    assert not list((tmp_path / "data").rglob("features.json"))


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar"])
def test_a_broken_image_is_named_before_anything_is_written(
    pack, picture, tmp_path, suffix, capsys
):
    files = {"dog/a.png": picture(1), "dog/b.png": cut(picture), "cat/c.png": picture(2)}
    archive = pack(tmp_path / f"pets{suffix}", files)
    assert main(["image_folder/pets", f"--data_dir={tmp_path / 'data'}", f"--archive={archive}"])
    assert re.fullmatch(
        r"calib_jax: error: archive: dog/b\.png: the image cannot be decoded \(\d+ bytes: .*\)\. "
        r"Replace the file, or leave it out by --leave_out_broken\.\n",
        capsys.readouterr().err,
    )
    assert not (tmp_path / "data").exists()


def test_several_broken_images(pack, picture, tmp_path):
    files = {f"dog/{name}.png": cut(picture) for name in "abcdef"} | {"cat/a.png": picture(1)}
    message = (
        r"^archive: dog/a\.png: the image cannot .*\); so are 5 more: dog/b\.png, dog/c\.png, "
        r"dog/d\.png, and 2 more\. Replace the files, or leave them out by --leave_out_broken\.$"
    )
    with pytest.raises(DataError, match=message):
        prepare("image_folder/pets", tmp_path / "data", pack(tmp_path / "pets", files))


def test_broken_images_are_left_out_and_counted(pack, picture, tmp_path, capsys):
    files = {"dog/a.png": picture(1), "dog/b.png": cut(picture), "cat/c.png": picture(2)}
    archive = pack(tmp_path / "pets", files)
    options = ["image_folder/pets", f"--data_dir={tmp_path}", f"--archive={archive}"]
    assert main([*options, "--leave_out_broken"]) == 0
    left_out = "1 of 3 images are broken and left out: dog/b.png."
    assert capsys.readouterr().out == (
        f"image_folder/pets/1.0.0: {left_out}\nimage_folder/pets/1.0.0: 2 images in split test\n"
    )
    folder = tmp_path / "image_folder" / "pets" / "1.0.0"
    assert json.loads((folder / "dataset_info.json").read_text())["description"] == (
        f"The images of pets; their folders are the classes. {left_out}"
    )
    rows = list(tfds.builder_from_directory(folder).as_data_source(split="test"))
    assert [(row["id"], row["label"]) for row in rows] == [(b"test_cat_c", 0), (b"test_dog_a", 1)]


def test_a_split_of_broken_images(pack, picture, tmp_path):
    files = {"train/dog/a.png": picture(1), "test/dog/b.png": cut(picture)}
    archive = pack(tmp_path / "pets", files)
    message = r"^archive: all 1 images of the split 'test' are broken, first test/dog/b\.png\. Repl"
    with pytest.raises(DataError, match=message):
        prepare("image_folder/pets", tmp_path / "data", archive, leave_out_broken=True)


def test_without_a_check_a_broken_image_is_met_later(pack, picture, tmp_path):
    archive = pack(tmp_path / "pets", {"dog/a.png": cut(picture)})
    options = ["image_folder/pets", f"--data_dir={tmp_path}", f"--archive={archive}"]
    assert main([*options, "--no_check"]) == 0
    images = ImageSplit(Split(name="image_folder/pets"), [tmp_path], image_size=4)
    message = (
        r"^data set image_folder/pets\[test\], record 0 \(test_dog_a\): the image cannot be .*\)\. "
        rf"Replace its file, delete {tmp_path}.*/1\.0\.0 and prepare the data set again\. "
    )
    with pytest.raises(DataError, match=message):
        images.image(0)


def test_leaving_out_what_nothing_finds(pack, picture, tmp_path):
    with pytest.raises(ConfigError, match=r"^leave_out_broken: got it with no_check, which finds"):
        prepare("image_folder/pets", tmp_path, tmp_path, check=False, leave_out_broken=True)
    with pytest.raises(ConfigError, match=r"^leave_out_broken: got it with cifar10, which TFDS"):
        prepare("cifar10", tmp_path, leave_out_broken=True)
