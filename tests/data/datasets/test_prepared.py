"""A prepared folder read back, and everything that can be wrong with one."""

import concurrent.futures
import json
import re
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.resampling import resample
from calib_jax.data.builders import record
from calib_jax.data.datasets import prepared
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import RecordSplit, Split
from calib_jax.data.resizing import resize_and_crop

NAMES = ("red", "green", "dark blue")


def pixels_of(split, index):
    """As the fixture writes them."""
    rng = record.rng_of("tiny_colours", split, index)
    image = rng.integers(0, 80, (16, 16, 3), np.uint8)
    image[..., index % 3] += 150
    return image


def opened(data_dir, split="train", **options):
    options = {"image_size": 16, **options}
    return ImageSplit(Split(name="tiny_colours", split=split), [data_dir], **options)


@pytest.fixture
def copy(tiny_data, tmp_path):
    """A copy of the data that a test may damage: (data_dir, folder of the version)."""
    shutil.copytree(tiny_data / "tiny_colours", tmp_path / "tiny_colours")
    return tmp_path, tmp_path / "tiny_colours" / "1.0.0"


def records_of(folder):
    return folder / "tiny_colours-train.array_record-00000-of-00001"


class Broken(record.RecordBuilder):
    """Images whose second record is cut short."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(16, 16, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["red"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(3):
            data = record.png_bytes(pixels_of("train", index))
            yield index, {"image": data[:100] if index == 1 else data, "label": 0}


@pytest.mark.parametrize(("split", "count"), [("train", 24), ("validation", 12), ("test", 10)])
def test_images_and_labels_are_those_written(tiny_data, split, count):
    images = opened(tiny_data, split)
    assert len(images) == count
    assert images.label_names == NAMES
    assert images.description == f"tiny_colours[{split}]"
    np.testing.assert_array_equal(images.labels(), np.arange(count) % 3)
    for index in (0, count - 1, 0):
        np.testing.assert_array_equal(images.image(index), pixels_of(split, index))


@pytest.mark.parametrize(
    ("split", "indices"),
    [("train[:50%]", range(12)), ("train[50%:]", range(12, 24)), ("train[3:7]", range(3, 7))],
)
def test_slices(tiny_data, split, indices):
    images = opened(tiny_data, split)
    assert len(images) == len(indices)
    np.testing.assert_array_equal(images.image(1), pixels_of("train", indices[1]))


def test_images_are_resized_to_the_size_or_left_as_stored(tiny_data):
    small = opened(tiny_data, image_size=8)
    np.testing.assert_array_equal(small.image(5), resize_and_crop(pixels_of("train", 5), 8))
    stored = opened(tiny_data, image_size=0)
    np.testing.assert_array_equal(stored.image(5), pixels_of("train", 5))
    assert stored.label(7) == 1


def test_memory_is_used_only_where_it_fits(tiny_data, monkeypatch):
    cached = opened(tiny_data)
    first, again = cached.image(3), cached.image(3)
    assert np.shares_memory(again, cached.image(3))
    monkeypatch.setattr(prepared, "_CACHE_BYTES", 1000)
    uncached = opened(tiny_data)
    assert not np.shares_memory(uncached.image(3), uncached.image(3))
    np.testing.assert_array_equal(uncached.image(3), again)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(uncached.labels(), cached.labels())


def test_stored_pixels_stay_in_memory_while_there_is_room(tiny_data, monkeypatch):
    roomy = opened(tiny_data, image_size=8)
    assert roomy.stored(3) is roomy.stored(3)
    np.testing.assert_array_equal(roomy.stored(3), pixels_of("train", 3))
    monkeypatch.setattr(prepared, "_CACHE_BYTES", 2000)  # two images of 768 bytes
    narrow = opened(tiny_data, image_size=8)
    kept = [narrow.stored(index) for index in range(3)]
    assert [narrow.stored(index) is pixels for index, pixels in enumerate(kept)] == [1, 1, 0]
    np.testing.assert_array_equal(kept[2], pixels_of("train", 2))
    assert [narrow.label(index) for index in range(3)] == [0, 1, 2]


def test_images_of_the_models_size_are_kept_once(tiny_data):
    images = opened(tiny_data)
    for first, second in ((images.image, images.stored), (images.stored, images.image)):
        first(3), second(4)
        assert np.shares_memory(images.image(3), images.stored(3))
    assert not images._stored


def test_many_threads_read_the_same_images(tiny_data):
    images = opened(tiny_data, image_size=8)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(images.stored, list(range(24)) * 20))
        views = list(pool.map(images.image, list(range(24)) * 20))
    for index in range(24):
        pixels = pixels_of("train", index)
        for got in (stored[index], stored[-24 + index]):
            np.testing.assert_array_equal(got, pixels)
        np.testing.assert_array_equal(views[index], resize_and_crop(pixels, 8))
    assert images._room == prepared._CACHE_BYTES - 24 * 768


@pytest.mark.parametrize("resize", ["host", "device"])
def test_frames_are_what_the_device_gets(tiny_data, resize):
    images = opened(tiny_data, image_size=8, resize=resize)
    expected = resize_and_crop(pixels_of("train", 5), 8)
    frame = images.frame(5)
    np.testing.assert_array_equal(images.image(5), expected)  # on the host, whatever the way
    if resize == "device":
        (got,) = jax.jit(resample)(frame.pixels[None], frame.taps[None])
        np.testing.assert_array_equal(got, expected)
    else:
        assert frame.taps is None
        np.testing.assert_array_equal(frame.pixels, expected)


def test_a_caller_cannot_change_the_images(tiny_data):
    images = opened(tiny_data)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            images.image(0)[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            opened(tiny_data, image_size=8).stored(0)[0] = 0


def test_labels_are_mapped_by_name(tiny_data):
    names = ("black", "dark blue", "green", "red")
    images = opened(tiny_data, class_names=names)
    assert images.label_names == names
    assert images.labels()[:4].tolist() == [3, 2, 1, 3]


def test_a_class_that_is_not_among_the_names(tiny_data):
    message = (
        r"data set tiny_colours\[train\]: 2 of its 3 classes are not among the 2 class names, "
        r"first 'green'\. Did you mean 'grean'\? Correct class_names"
    )
    with pytest.raises(ConfigError, match=message):
        opened(tiny_data, class_names=("red", "grean"))


def test_a_class_name_that_is_there_twice(tiny_data):
    message = r"tiny_colours\[train\]: got the class name 'green' twice, expected distinct .*Corr"
    with pytest.raises(ConfigError, match=message):
        opened(tiny_data, class_names=("red", "green", "dark blue", "green"))


@pytest.mark.parametrize("split", ["train", "train[3:7]"])
def test_records_are_those_in_the_file(tiny_data, split):
    records = RecordSplit(Split(name="tiny_colours", split=split), [tiny_data])
    first = 3 if "[" in split else 0
    read = records.read(2)
    assert read.encoded == record.png_bytes(pixels_of("train", first + 2))
    assert (read.id, read.label) == (f"{split}_000002", (first + 2) % 3)
    assert read.where == f"data set tiny_colours[{split}], record 2"
    np.testing.assert_array_equal(read.pixels(), pixels_of("train", first + 2))
    assert records.features["label"].names == ["red", "green", "dark_blue"]


def test_the_first_folder_that_holds_the_data_counts(tiny_data, copy):
    data_dir, folder = copy
    names = folder / "label.labels.txt"
    names.write_text("cyan\nmagenta\nyellow\n")
    split = Split(name="tiny_colours", split="test")
    missing = data_dir / "missing"
    first = ImageSplit(split, [missing, data_dir, tiny_data], image_size=8)
    assert first.label_names == ("cyan", "magenta", "yellow")
    assert ImageSplit(split, [tiny_data, data_dir], image_size=8).label_names == NAMES


def test_the_newest_version_is_opened_and_interrupted_ones_are_not(copy):
    data_dir, folder = copy
    shutil.copytree(folder, folder.parent / "1.0.0.incompleteA1B2C3")
    assert len(opened(data_dir)) == 24
    for version in ("1.10.0", "1.9.0"):
        shutil.copytree(folder, folder.parent / version)
        info = folder.parent / version / "dataset_info.json"
        info.write_text(info.read_text().replace('"1.0.0"', f'"{version}"'))
    (folder.parent / "1.10.0" / "label.labels.txt").write_text("cyan\nmagenta\nyellow\n")
    assert opened(data_dir).label_names == ("cyan", "magenta", "yellow")


def test_a_missing_folder_names_the_nearest_and_where_it_looked(tiny_data, tmp_path):
    message = (
        rf"data set 'tiny_colors': no prepared TFDS folder in {re.escape(str(tmp_path))} or "
        rf"{re.escape(str(tiny_data))}\. Did you mean 'tiny_colours'\? Found there: tiny_colours, "
    )
    with pytest.raises(ConfigError, match=message):
        ImageSplit(Split(name="tiny_colors"), [tmp_path, tiny_data], image_size=8)


def test_an_empty_data_dir(tmp_path):
    command = re.escape(f"python -m calib_jax.data.prepare cifar10 --data_dir={tmp_path}")
    message = rf"Found there: nothing\. Run {command}, or set --config\.data_dir to the folder that"
    with pytest.raises(ConfigError, match=message):
        ImageSplit(Split(name="cifar10"), [tmp_path], image_size=8)
    with pytest.raises(ConfigError, match=r"Found there: nothing\. Set --config\.data_dir"):
        ImageSplit(Split(name="my_pets"), [tmp_path], image_size=8)


@pytest.mark.parametrize("split", ["tset", "tset[:3]", "train+test"])
def test_a_missing_split(tiny_data, split):
    message = rf"got split '{re.escape(split)}', expected one of test, train, validation\. Did"
    with pytest.raises(ConfigError, match=message):
        opened(tiny_data, split)


@pytest.mark.parametrize("split", ["train[:0]", "train[20:3]", "train[:99]", "train[", "train[x]"])
def test_a_slice_that_is_empty_too_long_or_malformed(tiny_data, split):
    message = rf"data set tiny_colours\[{re.escape(split)}\]: cannot be opened: .*as train\[:90%\]"
    with pytest.raises(ConfigError, match=message):
        opened(tiny_data, split)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_metadata_names_the_folder(copy, file):
    data_dir, folder = copy
    (folder / file).write_text((folder / file).read_text()[:300])
    message = rf"data set 'tiny_colours': the folder {re.escape(str(folder))} is damaged: "
    with pytest.raises(ConfigError, match=message):
        opened(data_dir)


def test_missing_metadata_names_the_folder(copy):
    data_dir, folder = copy
    (folder / "dataset_info.json").unlink()
    with pytest.raises(ConfigError, match=r"is damaged: Could not read dataset info"):
        opened(data_dir)


@pytest.mark.parametrize(
    "change",
    [
        lambda features: {"image": features["image"], "klass": features["label"]},
        lambda features: {"image": features["image"], "label": features["image"]},
        lambda features: {"label": features["label"]},
    ],
    ids=["no label", "label is an image", "no image"],
)
def test_a_data_set_of_another_kind(copy, change):
    data_dir, folder = copy
    content = json.loads((folder / "features.json").read_text())
    features = content["featuresDict"]["features"]
    content["featuresDict"]["features"] = change(features)
    (folder / "features.json").write_text(json.dumps(content))
    message = r"got features \[.*\], expected 'image' and, as a ClassLabel, 'label'"
    with pytest.raises(ConfigError, match=message):
        opened(data_dir)


def test_a_broken_image_names_the_data_set_and_the_record(tmp_path):
    Broken(data_dir=str(tmp_path)).write()
    images = ImageSplit(Split(name="broken", split="train"), [tmp_path], image_size=16)
    np.testing.assert_array_equal(images.image(0), pixels_of("train", 0))
    message = (
        r"^data set broken\[train\], record 1 \(train_000001\): the image cannot be decoded \(100 "
        rf"bytes: .*\)\. Replace its file, delete {tmp_path}.*1\.0\.0 and prepare the data set "
        r"again\. Images of an archive are left out by --leave_out_broken\.$"
    )
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            images.image(1)
    with pytest.raises(DataError, match=message):
        images.labels()
    assert images.label(2) == 0


def test_a_flipped_bit_names_the_data_set_and_the_record(copy):
    data_dir, folder = copy
    data = bytearray(records_of(folder).read_bytes())
    first = data.index(b"\x89PNG")
    data[first + 200] ^= 1
    records_of(folder).write_bytes(bytes(data))
    images = opened(data_dir)
    message = r"^data set tiny_colours\[train\], record 0: the record cannot be read: .*mismatch"
    with pytest.raises(DataError, match=message):
        images.image(0)
    np.testing.assert_array_equal(images.image(1), pixels_of("train", 1))


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_file_names_the_record(copy, damage):
    data_dir, folder = copy
    data = records_of(folder).read_bytes()
    records_of(folder).unlink()
    if damage == "cut":
        records_of(folder).write_bytes(data[:5000])
    with pytest.raises(DataError, match=r"record 7: the record cannot be read: .*prepare the"):
        opened(data_dir).image(7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no protocol buffer", "the record cannot be read"), (b"", "it holds no image or no label")],
)
def test_a_record_of_another_format(copy, content, reason):
    data_dir, folder = copy
    records_of(folder).unlink()
    writer = ArrayRecordWriter(str(records_of(folder)), "group_size:1")
    for _ in range(24):
        writer.write(content)
    writer.close()
    with pytest.raises(DataError, match=rf"tiny_colours\[train\], record 2: {reason}"):
        opened(data_dir).image(2)


def test_a_label_beyond_the_names(copy):
    data_dir, folder = copy
    (folder / "label.labels.txt").write_text("red\ngreen\n")
    images = opened(data_dir)
    assert images.label(1) == 1
    with pytest.raises(
        DataError, match=r"record 2: got label 2, expected 0\.\.1\. Delete .*prepare the"
    ):
        images.label(2)
