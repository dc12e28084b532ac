"""The names of the published shifts are TFDS's, whose classes are numbers."""

import pytest
import tensorflow_datasets as tfds

from calib_jax.core.errors import ConfigError
from calib_jax.data.datasets import cifar10, cifar10_shifts
from calib_jax.data.datasets.records import NumberedSplit


def names_of(split, data_dir):
    builder = tfds.builder(split.name, data_dir=str(data_dir))
    return tuple(builder.info.features["label"].names)


def test_they_are_what_tfds_knows(tmp_path):
    assert cifar10_shifts.resampled() == NumberedSplit(name="cifar10_1/v6")
    corrupted = cifar10_shifts.corrupted(severities=(1, 5))
    assert len(corrupted) == 30
    assert len(cifar10_shifts.corrupted()) == 75
    for split in (cifar10_shifts.resampled("v4"), *corrupted.values()):
        own_names = names_of(split, tmp_path)
        mapped = split.label_map(own_names, cifar10.CLASS_NAMES, split.name)
        assert mapped.tolist() == list(range(10))
        assert split.groups(own_names, cifar10.CLASS_NAMES) is None


@pytest.mark.parametrize(
    ("own_names", "class_names", "message"),
    [
        (
            ("red", "1"),
            ("a", "b"),
            r"got the class 'red', expected numbers\. Name the split by Spl",
        ),
        (("0", "1"), ("a", "b", "c"), r"got 3 class names, expected 2\. Correct class_names\."),
    ],
)
def test_other_classes(own_names, class_names, message):
    with pytest.raises(ConfigError, match=rf"^data set x\[test\]: {message}"):
        NumberedSplit(name="x").label_map(own_names, class_names, "x[test]")
