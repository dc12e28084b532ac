"""Parts of a split: shares by a hash of the ids, and classes left out."""

import hashlib
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from calib_jax.core.errors import ConfigError
from calib_jax.data.builders import record
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import NumberedSplit, RecordSplit, Split, id_position

CUTS = (0.0, 0.3, 0.35, 0.8, 1.0)
NAMES = [f"photo_{number}" for number in range(40)]


class Named(record.RecordBuilder):
    """40 images of one shade each, under ids; every other one is of the class `odd`."""

    VERSION = tfds.core.Version("1.0.0")
    order = range(40)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 4, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
            "id": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for key, number in enumerate(self.order):
            image = np.full((4, 4, 3), number, np.uint8)
            encoded = record.png_bytes(image)
            yield key, {"image": encoded, "label": number % 2, "id": NAMES[number]}


@pytest.fixture(scope="module")
def named_data(tmp_path_factory):
    """Two folders with the same examples, stored in opposite orders."""
    folders = [tmp_path_factory.mktemp(name) for name in ("forward", "backward")]
    for folder, step in zip(folders, (1, -1), strict=True):
        builder = Named(data_dir=str(folder))
        builder.order = range(40)[::step]
        builder.write()
    return folders


def ids(folder, name="named", split="test", **choice):
    records = RecordSplit(Split(name=name, split=split, **choice), [folder])
    return [records.read(index).id for index in range(len(records))]


def test_positions_are_those_of_a_hash_and_evenly_spread():
    # The parts of published data sets hang on it: it must never change.
    assert id_position("photo_person_253_0201") == 0.077070835944552
    positions = [id_position(f"test_{number:06d}") for number in range(5000)]
    digest = hashlib.blake2b(b"test_000007", digest_size=8).hexdigest()
    assert positions[7] == pytest.approx(int(digest, 16) / 2**64, abs=1e-15)
    counts, _ = np.histogram(positions, bins=10, range=(0, 1))
    assert counts.sum() == 5000
    assert np.abs(counts - 500).max() < 4 * np.sqrt(5000 * 0.1 * 0.9)
    assert id_position("caf\udce9") != id_position("café")  # a byte that is no UTF-8 is an id too


def test_shares_partition_a_split_whatever_its_order(named_data):
    forward, backward = named_data
    assert ids(forward) == NAMES == ids(backward)[::-1]
    parts = []
    for share in zip(CUTS, CUTS[1:], strict=False):
        part = ids(forward, share=share)
        assert part == [name for name in NAMES if share[0] <= id_position(name) < share[1]]
        assert ids(backward, share=share) == part[::-1]
        parts += part
    assert sorted(parts) == sorted(NAMES)


def test_images_and_labels_are_those_of_the_share(named_data):
    for folder in named_data:
        split = Split(name="named", split="test", share=(0.5, 1.0))
        images = ImageSplit(split, [folder], image_size=4, class_names=("odd", "even"))
        assert images.description == "named[test], ids in [0.5, 1)"
        expected = [NAMES.index(name) for name in ids(folder, share=(0.5, 1.0))]
        assert [images.image(i)[0, 0, 0] for i in range(len(images))] == expected
        assert images.labels().tolist() == [1 - number % 2 for number in expected]


def test_shares_are_of_ids(tiny_data):
    message = (
        r"^data set tiny_colours\[train\]: got share \(0.0, 0.5\), but its examples have no id. "
        r"Slice it as train\[:90%\] instead.$"
    )
    with pytest.raises(ConfigError, match=message):
        ids(tiny_data, "tiny_colours", "train", share=(0.0, 0.5))


@pytest.mark.parametrize("blue", ["dark_blue", "dark blue"])
def test_classes_are_left_out(tiny_data, blue):
    split = Split(name="tiny_colours", split="test", without=("green", blue))
    images = ImageSplit(split, [tiny_data], image_size=16)
    whole = ImageSplit(Split(name="tiny_colours"), [tiny_data], image_size=16)
    assert images.description == f"tiny_colours[test], without green, {blue}"
    assert images.labels().tolist() == [0] * 4
    for index in range(4):
        np.testing.assert_array_equal(images.image(index), whole.image(3 * index))
    # The classes are still the data set's.
    assert images.label_names == whole.label_names and images.absent == ()


def test_a_share_of_what_is_not_left_out(named_data):
    split = Split(name="named", split="test", share=(0.2, 0.9), without=("even",))
    images = ImageSplit(split, named_data, image_size=4)
    assert images.description == "named[test], ids in [0.2, 0.9), without even"
    chosen = ids(named_data[0], share=(0.2, 0.9), without=("even",))
    assert chosen == [n for n in ids(named_data[0], share=(0.2, 0.9)) if int(n[6:]) % 2]
    assert images.labels().tolist() == [1] * len(chosen)


@pytest.mark.parametrize(
    "share", [(0.5, 0.5), (0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (0.0, float("nan"))]
)
def test_a_share_out_of_range(tiny_data, share):
    message = r"^data set tiny_colours\[test\]: got share \(.*\), expected 0 <= low < high <= 1\. C"
    with pytest.raises(ConfigError, match=message):
        ids(tiny_data, "tiny_colours", "test", share=share)


def test_an_unknown_class_to_leave_out(tiny_data):
    message = (
        r"^data set tiny_colours\[test\]: without names 'dark bleu', which is no class of it\. "
        r"Did you mean 'dark blue'\? Correct it\."
    )
    with pytest.raises(ConfigError, match=message):
        ids(tiny_data, "tiny_colours", "test", without=("red", "dark_bleu"))


@pytest.mark.parametrize("choice", [{"share": (0.0, 1e-9)}, {"without": ("even", "odd")}])
def test_nothing_is_left(named_data, choice):
    message = r"^data set named\[test\], (ids|without) .*: it is empty\. Choose more of it\."
    with pytest.raises(ConfigError, match=message):
        RecordSplit(Split(name="named", split="test", **choice), [named_data[0]])


@pytest.mark.parametrize(
    ("own_names", "class_names", "message"),
    [
        (
            ("red", "1"),
            ("a", "b"),
            r"got the class 'red', expected numbers\. Name the split by Spl",
        ),
        (("0", "1"), ("a", "b", "c"), r"got 3 class names, expected 2\. Correct class_names\."),
        (("0", "1", "3"), "abc", r"got no class 2, expected 0 to 2 or 1 to 3\. Ren"),
        (("1", "3"), "ab", r"got no class 2, expected 0 to 1 or 1 to 2\. Rename"),
        (("0", "00", "1"), "abc", r"got no class 2, expected 0 to 2"),
        (("0", "²"), "ab", r"got the class '²', expected numbers"),
        (("9" * 5000, "0"), "ab", r"got the class '9999999999.*', expected numbers"),
    ],
)
def test_classes_that_are_no_numbers_or_others(own_names, class_names, message):
    with pytest.raises(ConfigError, match=rf"^data set x\[test\]: {message}"):
        NumberedSplit(name="x").label_map(own_names, class_names, "x[test]")


@pytest.mark.parametrize("form", ["{}", "{:05}"])
@pytest.mark.parametrize("first", [0, 1])
def test_folders_with_numbers_get_the_names_of_their_numbers(first, form):
    names = [f"name {number}" for number in range(12)]
    own = sorted(form.format(first + number) for number in range(12))
    places = NumberedSplit(name="x").label_map(own, names, "x[test]")
    assert [names[place] for place in places] == [f"name {int(name) - first}" for name in own]


def test_a_data_dir_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Named(data_dir=str(tmp_path / "data")).write()
    assert len(RecordSplit(Split(name="named"), [pathlib.Path("~/data")])) == 40
    with pytest.raises(ConfigError, match="data_dir: got '~nobodyx/data', expected the home fold"):
        RecordSplit(Split(name="named"), [pathlib.Path("~nobodyx/data")])
