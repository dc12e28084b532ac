"""ReaL's labels beside an archive laid out as ILSVRC2012_img_val.tar."""

import json

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.imagenet_real import imagenet_real
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.prepared import ImageSplit

ANSWERS = [[836, 837], [], [7], [1, 0, 999]]


@pytest.fixture
def folder(pack, picture, tmp_path):
    """The tar, its members in no order, and real.json."""
    numbers = (3, 1, 4, 2)
    files = {f"ILSVRC2012_val_{number:08}.JPEG": picture(number) for number in numbers}
    pack(tmp_path / "ILSVRC2012_img_val.tar", files)
    (tmp_path / "real.json").write_text(json.dumps(ANSWERS))
    return tmp_path


def built(folder):
    with open_archive(folder / "ILSVRC2012_img_val.tar") as archive:
        builder = imagenet_real(archive, folder)
        builder.write()


def test_images_with_answers_and_all_of_them(folder):
    built(folder)
    images = ImageSplit(imagenet.real(), [folder], image_size=4, class_names=imagenet.CLASS_NAMES)
    answers = images.answers()  # before a label was asked for
    assert [np.flatnonzero(row).tolist() for row in answers] == [[836, 837], [7], [0, 1, 999]]
    assert images.labels().tolist() == [836, 7, 1]
    assert [int(images.image(index)[0, 0, 0]) for index in range(3)] == [1, 3, 4]
    assert images.groups is None and images.absent == ()


def test_without_real_json(folder):
    (folder / "real.json").unlink()
    message = r"^imagenet_real: no .*real\.json\. Download real\.json of github.com/google-res"
    with pytest.raises(ConfigError, match=message):
        built(folder)


@pytest.mark.parametrize("content", ["no json", "{}", "[]", "[[1], [1000]]", "[1, 2]", '[["a"]]'])
def test_another_real_json(folder, content):
    (folder / "real.json").write_text(content)
    message = r"real\.json: got .*, expected a list of lists of classes 0 to 999\. Download it"
    with pytest.raises(DataError, match=message):
        built(folder)


def test_labels_of_other_images(folder):
    (folder / "real.json").write_text("[[1]]")
    message = r"got 4 images from ILSVRC2012_val_00000001.JPEG on, expected 1 from .*, as in real"
    with pytest.raises(DataError, match=message):
        built(folder)
