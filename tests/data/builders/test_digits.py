"""The digits in every domain: written once without TensorFlow, read back and compared."""

import itertools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn import datasets

from calib_jax.data.builders import digits

ROOT = pathlib.Path(__file__).resolve().parents[3]
STYLED = ("clean", *digits.DOMAINS)
PREPARE = """
import pathlib, sys
from calib_jax.data.builders import digits
digits.write_domains(pathlib.Path(sys.argv[1]))
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """All domains, prepared by a process of its own that must not import TensorFlow."""
    folder = tmp_path_factory.mktemp("digits")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PREPARE, str(folder)], check=True, env=environment)
    return folder


def read(data_dir, domain, split):
    """The rows by id; an image is opened on access only."""
    rows = tfds.builder(f"digits/{domain}", data_dir=data_dir).as_data_source(split)
    return {row["id"].decode(): row for row in rows}


def test_domains_and_templates():
    assert len(digits.DOMAINS) >= 8 and "clean" not in digits.DOMAINS
    assert set(digits.TEMPLATES) == set(STYLED)
    for templates in digits.TEMPLATES.values():
        assert len(templates) >= 3
        assert all(template.count("{}") == 1 for template in templates)


@pytest.mark.parametrize("domain", STYLED)
def test_domain_has_three_splits_with_eight_classes(domain, data_dir):
    info = tfds.builder_from_directory(data_dir / "digits" / domain / "1.0.0").info
    assert set(info.splits) == {"train", "validation", "test"}
    assert tuple(info.features["label"].names) == digits.CLASS_NAMES
    assert info.features["image"].shape == (32, 32, 3)
    sizes = np.array([info.splits[split].num_examples for split in digits.SPLITS])
    assert sizes.sum() == np.count_nonzero(datasets.load_digits().target < 8)
    np.testing.assert_allclose(sizes / sizes.sum(), [0.6, 0.2, 0.2], atol=0.03)


@pytest.mark.parametrize("domain", STYLED)
def test_scan_keeps_split_and_label_in_every_domain(domain, data_dir):
    targets = datasets.load_digits().target
    for name, row in read(data_dir, domain, "test").items():
        index = int(name.removeprefix("scan_"))
        assert digits.split_of(index) == "test"
        assert row["label"] == targets[index]


def test_splits_are_disjoint(data_dir):
    ids = [set(read(data_dir, "clean", split)) for split in digits.SPLITS]
    assert all(not a & b for a, b in itertools.combinations(ids, 2))


def test_domains_look_different_from_clean(data_dir):
    clean = read(data_dir, "clean", "validation")
    for domain in digits.DOMAINS:
        shifted = read(data_dir, domain, "validation")
        gaps = [np.abs(shifted[n]["image"] - clean[n]["image"].astype(float)).mean() for n in clean]
        assert np.mean(gaps) > 8, domain


def test_near_ood_is_every_eight_and_nine(data_dir):
    rows = read(data_dir, "near_ood", "test")
    targets = datasets.load_digits().target
    assert {name: 8 + int(row["label"]) for name, row in rows.items()} == {
        f"scan_{index:04d}": digit for index, digit in enumerate(targets) if digit >= 8
    }
    info = tfds.builder("digits/near_ood", data_dir=data_dir).info
    assert tuple(info.features["label"].names) == ("eight", "nine")
    assert set(info.splits) == {"test"}


def test_far_ood_is_photo_patches(data_dir):
    rows = read(data_dir, "far_ood", "test")
    assert len(rows) >= 300
    assert np.bincount([row["label"] for row in rows.values()]).tolist() == [200, 200]
    assert all(row["image"].shape == (32, 32, 3) for row in rows.values())


def test_no_photo_column_is_shared():
    strips = [strip for group in digits.STRIPS.values() for strip in group]
    for (a, b), (c, d) in itertools.combinations(strips, 2):
        assert b <= c or d <= a
    assert all(0 <= first < last <= 640 for first, last in strips)


def test_prepare_leaves_prepared_domains_alone(data_dir):
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    digits.write_domains(data_dir)
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before


@pytest.mark.parametrize("domain", ["near_ood", "far_ood"])
def test_writing_again_gives_the_same_records(domain, data_dir, tmp_path):
    digits.Digits(config=domain, data_dir=str(tmp_path)).write()
    first, second = read(data_dir, domain, "test"), read(tmp_path, domain, "test")
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name]["image"], second[name]["image"])


def test_enlarged_keeps_the_brightness_inside_a_margin():
    image = digits.enlarged(np.full((8, 8), 16.0))
    assert image.shape == (32, 32, 3)
    assert image[:4].max() == 0 and image[4:28, 4:28].min() == 255
