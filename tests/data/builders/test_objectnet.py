"""ObjectNet from a folder laid out as the official one."""

import json

import numpy as np
import pytest

from calib_jax.core.errors import DataError
from calib_jax.data.builders import record
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.objectnet import objectnet
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import RecordSplit
from calib_jax.evaluation.restrict import restrict

ROOT = "objectnet-1.0"
TABLES = {
    "folder_to_objectnet_label.json": json.dumps(
        {
            "tv": "TV",
            "alarm_clock": "Alarm clock",
            "air_freshener": "Air freshener",
            "banana": "Banana",
        }
    ),
    "objectnet_to_imagenet_1k.json": json.dumps(
        {
            "Alarm clock": "analog clock; digital clock",
            "Banana": "banana",
            "TV": "television, television system",
        }
    ),
    # Line number of every class, by its place among the sorted WordNet ids.
    "pytorch_to_imagenet_2012_id.json": json.dumps(
        {"409": 1, "530": 2, "954": 3, "851": 4, "134": 0, "517": 5}
    ),
    "imagenet_to_label_2012_v2": "crane\nanalog clock\ndigital clock\nbanana\n"
    "television, television system\ncrane\n",
}


def framed(shade):
    pixels = np.full((8, 10, 3), (255, 0, 0), np.uint8)
    pixels[2:-2, 2:-2] = shade
    return record.png_bytes(pixels)


def files(**changed):
    tables = {f"{ROOT}/mappings/{name}": text.encode() for name, text in TABLES.items()}
    tables.update({f"{ROOT}/mappings/{name}": text.encode() for name, text in changed.items()})
    images = {
        "tv/5c2a.png": 4,
        "banana/0ff1.png": 3,
        "alarm_clock/9e0d.png": 2,
        "alarm_clock/0a1b.png": 1,
        "air_freshener/77aa.png": 9,
    }
    return {**tables, **{f"{ROOT}/images/{name}": framed(shade) for name, shade in images.items()}}


def built(archive, data_dir):
    with open_archive(archive) as opened:
        builder = objectnet(opened, data_dir)
        builder.write()


def test_images_of_imagenet_classes_without_their_frame(pack, tmp_path):
    built(pack(tmp_path / "archive", files()), tmp_path)
    split = imagenet.shifts()["objectnet"]
    records = RecordSplit(split, [tmp_path])
    names = [records.read(index).id for index in range(len(records))]
    assert names == ["alarm_clock_0a1b", "alarm_clock_9e0d", "banana_0ff1", "tv_5c2a"]
    images = ImageSplit(split, [tmp_path], image_size=0, class_names=imagenet.CLASS_NAMES)
    for index in range(4):
        np.testing.assert_array_equal(images.image(index), np.full((4, 6, 3), index + 1, np.uint8))


def test_a_class_is_the_maximum_over_its_imagenet_classes(pack, tmp_path):
    built(pack(tmp_path / "archive.zip", files()), tmp_path)
    split = imagenet.shifts()["objectnet"]
    images = ImageSplit(split, [tmp_path], image_size=4, class_names=imagenet.CLASS_NAMES)
    assert images.labels().tolist() == [409, 409, 954, 851]
    assert np.flatnonzero(images.groups >= 0).tolist() == [409, 530, 851, 954]
    assert images.groups[[409, 530, 954, 851]].tolist() == [0, 0, 1, 2]
    assert images.groups[images.labels()].tolist() == [0, 0, 1, 2]
    assert len(images.absent) == 996
    logits = np.random.default_rng(0).normal(size=(4, 1000))
    expected = np.stack([logits[:, [409, 530]].max(axis=1), logits[:, 954], logits[:, 851]], axis=1)
    np.testing.assert_array_equal(restrict(logits, images.groups), expected)


def broken(pack, tmp_path, message, **changed):
    archive = pack(tmp_path / "archive.zip", files(**changed))
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        objectnet(opened, tmp_path)


def test_a_name_that_is_not_one_class(pack, tmp_path):
    names = json.dumps({"TV": "crane"})
    message = r"imagenet_to_label_2012_v2 has the class 'crane' 2 times, expected once\. Download"
    broken(pack, tmp_path, message, **{"objectnet_to_imagenet_1k.json": names})


def test_a_damaged_table(pack, tmp_path):
    message = r"folder_to_objectnet_label\.json cannot be read: Expecting value.*\. Download it a"
    broken(pack, tmp_path, message, **{"folder_to_objectnet_label.json": "<html>"})


def test_a_folder_without_images(pack, tmp_path):
    some = {name: data for name, data in files().items() if "banana/" not in name}
    message = r"no image in images/banana, one of its 3 folders with ImageNet classes\. Unpack it w"
    archive = pack(tmp_path / "archive", some)
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        objectnet(opened, tmp_path)


def test_an_image_smaller_than_its_frame(pack, picture, tmp_path):
    archive = pack(
        tmp_path / "archive", {**files(), f"{ROOT}/images/tv/tiny.png": picture(1, side=4)}
    )
    message = r"tiny\.png: got 4 x 4 pixels, expected more than its red frame\. Use the official"
    with pytest.raises(DataError, match=message):
        built(archive, tmp_path)
