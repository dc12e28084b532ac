"""The names of the published copies are TFDS's, whose classes are numbers."""

import tensorflow_datasets as tfds

from calib_jax.data.datasets import cifar10, cifar10_c


def test_they_are_what_tfds_knows(tmp_path):
    corrupted = cifar10_c.corrupted(severities=(1, 5))
    assert len(corrupted) == 30
    assert len(cifar10_c.corrupted()) == 75
    assert corrupted["frosted glass blur 5"].name == "cifar10_corrupted/frosted_glass_blur_5"
    for split in corrupted.values():
        own_names = tuple(
            tfds.builder(split.name, data_dir=str(tmp_path)).info.features["label"].names
        )
        mapped = split.label_map(own_names, cifar10.CLASS_NAMES, split.name)
        assert mapped.tolist() == list(range(10))
        assert split.groups(own_names, cifar10.CLASS_NAMES) is None
