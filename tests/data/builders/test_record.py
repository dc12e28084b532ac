"""Seeds that do not depend on the process, lossless images, and quiet, TensorFlow-free writing."""

import hashlib

import numpy as np
import tensorflow_datasets as tfds

from calib_jax.data.builders import record
from calib_jax.data.images import decode


class ThreeDots(record.RecordBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(4, 4, 3)),
                "label": tfds.features.ClassLabel(names=["dot"]),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for index in range(3):
            image = np.full((4, 4, 3), index, np.uint8)
            yield index, {"image": record.png_bytes(image), "label": 0}


def test_seed_of_is_the_head_of_the_sha256():
    expected = int(hashlib.sha256(b"digits/rotated/7").hexdigest()[:16], 16)
    assert record.seed_of("digits", "rotated", 7) == expected


def test_seed_of_tells_neighbours_apart():
    assert len({record.seed_of("a", i) for i in range(1000)}) == 1000


def test_rng_of_repeats():
    np.testing.assert_array_equal(record.rng_of("a", 1).random(4), record.rng_of("a", 1).random(4))


def test_png_bytes_are_lossless():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode(record.png_bytes(image), where="x"), image)


def test_write_is_quiet_and_repeatable(tmp_path, capsys):
    builder = ThreeDots(data_dir=str(tmp_path))
    assert not builder.is_written()
    builder.write()
    assert capsys.readouterr().out == ""
    assert ThreeDots(data_dir=str(tmp_path)).is_written()
    rows = tfds.builder_from_directory(builder.data_dir).as_data_source("test")
    assert [int(row["image"].mean()) for row in rows] == [0, 1, 2]


def test_none_is_a_data_set_of_tfds():
    known = tfds.list_builders(with_community_datasets=False)
    assert "cifar10" in known
    assert not {"three_dots", "record_builder", "image_files"} & set(known)
