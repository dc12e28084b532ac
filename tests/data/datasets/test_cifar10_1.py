"""The name is TFDS's, whose classes are numbers."""

import pytest
import tensorflow_datasets as tfds

from calib_jax.data.datasets import cifar10, cifar10_1
from calib_jax.data.datasets.records import NumberedSplit


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_it_is_what_tfds_knows(tmp_path, version):
    split = cifar10_1.test(version)
    assert split == NumberedSplit(name=f"cifar10_1/{version}")
    own_names = tfds.builder(split.name, data_dir=str(tmp_path)).info.features["label"].names
    mapped = split.label_map(tuple(own_names), cifar10.CLASS_NAMES, split.name)
    assert mapped.tolist() == list(range(10))


def test_the_benchmark_is_v6():
    assert cifar10_1.test() == cifar10_1.test("v6")
