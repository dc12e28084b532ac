"""Names of the digits' splits."""

import pytest

from calib_jax.data.builders import digits as builder
from calib_jax.data.datasets import digits
from calib_jax.data.datasets.prepared import ImageSplit


def test_splits_are_named_as_the_builder_writes_them():
    assert digits.domain("rotated", "train").name == "digits/rotated"
    assert digits.domain("rotated", "train").split == "train"
    names = {digits.domain(name, "test").name for name in ("clean", *digits.DOMAINS)}
    names |= {digits.near_ood().name, digits.far_ood().name}
    assert names == {f"digits/{name}" for name in builder.Digits.builder_configs}


@pytest.mark.parametrize("split", [digits.near_ood(), digits.far_ood()])
def test_ood_sets_have_a_test_split_only(split):
    assert split.split == "test"


def test_prepare_writes_to_the_output_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "_CONFIGS", builder._CONFIGS[:1])
    digits.prepare(tmp_path / "unused", tmp_path / "output")
    split = digits.domain("clean", "validation")
    images = ImageSplit(split, [tmp_path / "output"], image_size=16, class_names=digits.CLASS_NAMES)
    assert len(images) > 100
    assert not (tmp_path / "unused").exists()
