"""The command that an error names is one that `prepare` takes."""

import pathlib

import pytest

from calib_jax.data.datasets import cifar10_1, cifar10_c, imagenet
from calib_jax.data.official import OFFICIAL_ARCHIVES, command

START = "python -m calib_jax.data.prepare"


@pytest.mark.parametrize(
    ("name", "prepared"),
    [
        *((name, name) for name in OFFICIAL_ARCHIVES if name != "image_folder/NAME"),
        ("imagenet_c/fog_3", "imagenet_c"),
        ("image_folder/pets", "image_folder/pets"),
    ],
)
def test_what_our_builders_read(name, prepared):
    found = command(name, pathlib.Path("data"))
    source = OFFICIAL_ARCHIVES.get(prepared, OFFICIAL_ARCHIVES["image_folder/NAME"])
    assert found == f"{START} {prepared} --data_dir=data --archive=PATH (PATH: {source})"


@pytest.mark.parametrize(
    ("name", "prepared"),
    [
        ("cifar10", "cifar10"),
        ("imagenet2012", "imagenet2012"),
        ("cifar10_1/v6", "cifar10_1/v6"),
        ("domainnet/sketch", "domainnet/sketch"),
        ("imagenet_v2/topimages", "imagenet_v2/topimages"),
        ("cifar10_corrupted/fog_3", "'cifar10_corrupted/*'"),
    ],
)
def test_what_tfds_prepares(name, prepared):
    assert command(name, pathlib.Path("a b")) == f"{START} {prepared} --data_dir='a b'"


@pytest.mark.parametrize("name", ["tiny_colours", "objectnt", "digits/clean", ""])
def test_what_nobody_knows(name):
    assert command(name, pathlib.Path("data")) == ""


def test_every_data_set_of_the_suites_has_one():
    suites = (imagenet.shifts(), imagenet.corrupted(), cifar10_c.corrupted())
    splits = [split for suite in suites for split in suite.values()]
    for split in (*splits, imagenet.validation(), imagenet.real(), cifar10_1.test()):
        assert command(split.name, pathlib.Path("data")).startswith(START), split.name
