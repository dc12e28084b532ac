"""Corrupted copies: TFDS's own pixels, the source's ids and labels, and clear errors."""

import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import corruptions as tfds_corruptions

from calib_jax.core import errors
from calib_jax.data.builders import corrupted, record

NUM_EXAMPLES = 24
NAMES = ("cat", "dog", "owl")


def picture(index):
    """Smooth colours with an edge: every corruption changes it."""
    y, x = np.mgrid[:32, :32] / 31.0
    image = np.stack([x, y, (x + y + index / NUM_EXAMPLES) % 1.0], axis=-1) * 180 + 20
    return image.astype(np.uint8)


class TinyPictures(record.RecordBuilder):
    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=NAMES),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for index in range(NUM_EXAMPLES):
            image = record.png_bytes(picture(index))
            yield index, {"id": f"tiny_{index:02d}", "image": image, "label": index % 3}


class OnlyText(record.RecordBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"id": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        yield "a", {"id": "a"}


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    TinyPictures(data_dir=str(folder)).write()
    OnlyText(data_dir=str(folder)).write()
    return folder


@pytest.fixture
def prepare(source_dir, tmp_path):
    def call(source="tiny_pictures", split="test", data_dir=tmp_path, **options):
        return corrupted.prepare_corrupted(
            source, split=split, source_dir=source_dir, data_dir=data_dir, **options
        )

    return call


def read(data_dir, name):
    return list(tfds.builder_from_directory(data_dir / name / "1.0.0").as_data_source("test"))


def test_copies_keep_ids_labels_names_and_order(prepare, tmp_path):
    names = prepare(corruptions=("contrast", "pixelate"), severities=(1, 4))
    assert names == [
        f"tiny_pictures_corrupted/{name}"
        for name in ("contrast_1", "contrast_4", "pixelate_1", "pixelate_4")
    ]
    for name in names:
        info = tfds.builder_from_directory(tmp_path / name / "1.0.0").info
        assert tuple(info.features["label"].names) == NAMES and set(info.splits) == {"test"}
        rows = read(tmp_path, name)
        assert [row["id"].decode() for row in rows] == [
            f"tiny_{i:02d}" for i in range(NUM_EXAMPLES)
        ]
        assert [int(row["label"]) for row in rows] == [i % 3 for i in range(NUM_EXAMPLES)]


def test_images_are_those_of_tfds(prepare, tmp_path):
    (contrast, jpeg) = prepare(corruptions=("contrast", "jpeg_compression"), severities=(3,))
    for index, (low, lossy) in enumerate(
        zip(read(tmp_path, contrast), read(tmp_path, jpeg), strict=True)
    ):
        image = picture(index)
        np.testing.assert_array_equal(low["image"], tfds_corruptions.contrast(image, 3))
        np.testing.assert_array_equal(lossy["image"], tfds_corruptions.jpeg_compression(image, 3))


def test_gaussian_noise_by_formula():
    image, seed = picture(0), 2**40 + 5
    noise = np.random.RandomState(seed % 2**32).normal(size=image.shape, scale=0.18)  # noqa: NPY002
    expected = np.around(np.clip(image / 255.0 + noise, 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(
        corrupted.corrupt(image, "gaussian_noise", 3, seed=seed), expected
    )


@pytest.mark.parametrize("severity", corrupted.SEVERITIES)
def test_impulse_noise_is_that_of_tfds_with_a_seed(severity, monkeypatch):
    ours = corrupted.corrupt(picture(0), "impulse_noise", severity, seed=11)
    seeded = np.random.default_rng(11)
    monkeypatch.setattr(np.random, "default_rng", lambda seed=None: seeded)
    np.testing.assert_array_equal(ours, tfds_corruptions.impulse_noise(picture(0), severity))


@pytest.mark.parametrize("corruption", corrupted.CORRUPTIONS)
def test_corruption_runs_without_opencv_and_repeats(corruption, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for severity in corrupted.SEVERITIES:
        first = corrupted.corrupt(picture(1), corruption, severity, seed=7)
        assert first.shape == (32, 32, 3) and first.dtype == np.uint8
        assert not np.array_equal(first, picture(1))
        again = corrupted.corrupt(picture(1), corruption, severity, seed=7)
        np.testing.assert_array_equal(first, again)


def test_global_random_state_is_put_back():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    corrupted.corrupt(picture(0), "shot_noise", 2, seed=1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_noise_differs_between_examples_and_repeats_between_folders(prepare, tmp_path):
    options = {"corruptions": ("gaussian_noise", "impulse_noise"), "severities": (5,)}
    for name in prepare(**options):
        prepare(data_dir=tmp_path / "again", **options)
        first, again = read(tmp_path, name), read(tmp_path / "again", name)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])
        noise = [row["image"] - picture(i).astype(int) for i, row in enumerate(first)]
        assert not np.array_equal(noise[0], noise[1])


def test_prepared_copies_are_left_alone(prepare, tmp_path):
    options = {"corruptions": ("contrast",), "severities": (2,)}
    prepare(**options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    prepare(**options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_subset_is_balanced_nested_and_in_order(prepare, tmp_path):
    kept = {}
    for size in (6, 12):
        options = {"corruptions": ("contrast",), "severities": (1,), "max_examples": size}
        (name,) = prepare(data_dir=tmp_path / str(size), **options)
        rows = read(tmp_path / str(size), name)
        kept[size] = [row["id"] for row in rows]
        assert np.bincount([row["label"] for row in rows]).tolist() == [size // 3] * 3
    assert set(kept[6]) < set(kept[12])
    assert kept[12] == sorted(kept[12])


def test_more_than_all_examples_is_all_of_them(prepare, tmp_path):
    (name,) = prepare(corruptions=("contrast",), severities=(1,), max_examples=1000)
    assert len(read(tmp_path, name)) == NUM_EXAMPLES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": ("gausian_noise",)}, "corruption: got 'gausian_noise'.*'gaussian_noise'"),
        ({"severities": (7,)}, "severity: got 7, expected 1 to 5. Did you mean 5"),
        ({"max_examples": 0}, "max_examples: got 0, expected at least 1"),
        (
            {"source": "tiny_picture"},
            r"data set 'tiny_picture': no prepared TFDS folder in .*Did you mean 'tiny_pictures'\?"
            r".*Set --config\.data_dir",
        ),
        ({"split": "tset"}, r"tiny_pictures\[tset\]: got split 'tset', expected one of test\. Did"),
        ({"split": "test[:3]"}, r"got 'test\[:3\]', expected a whole split\. Use max_examples"),
        ({"source": "only_text"}, r"only_text\[test\]: got features \['id'\], expected 'image'"),
    ],
)
def test_wrong_request_is_a_config_error(options, message, prepare, tmp_path):
    with pytest.raises(errors.ConfigError, match=message):
        prepare(**options)
    assert not list(tmp_path.iterdir())


def test_folder_of_another_size_is_never_overwritten(prepare):
    options = {"corruptions": ("contrast",), "severities": (1,)}
    prepare(max_examples=6, **options)
    with pytest.raises(
        errors.ConfigError, match=r"contrast_1.*got 6 examples in split 'test', expected 24"
    ):
        prepare(**options)


@pytest.fixture
def damaged(source_dir, tmp_path):
    """(call, folder, written): prepares from a copy of the source that a test may damage."""
    shutil.copytree(source_dir / "tiny_pictures", tmp_path / "source" / "tiny_pictures")

    def call():
        corrupted.prepare_corrupted(
            "tiny_pictures",
            split="test",
            source_dir=tmp_path / "source",
            data_dir=tmp_path / "out",
            corruptions=("contrast",),
            severities=(1,),
        )

    def written():
        return list((tmp_path / "out").rglob("*.array_record*"))

    return call, tmp_path / "source" / "tiny_pictures" / "2.0.0", written


def test_a_flipped_bit_in_the_source_names_the_record(damaged):
    call, folder, written = damaged
    (path,) = folder.glob("*.array_record*")
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89PNG") + 200] ^= 1
    path.write_bytes(bytes(data))
    message = r"^data set tiny_pictures\[test\], record 0: the record cannot be read: .*mismatch"
    with pytest.raises(errors.DataError, match=message):
        call()
    assert not written()


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_a_damaged_source_folder_is_named(damaged, file):
    call, folder, written = damaged
    (folder / file).write_text((folder / file).read_text()[:100])
    message = rf"data set 'tiny_pictures': the folder {re.escape(str(folder))} is damaged: "
    with pytest.raises(errors.ConfigError, match=message):
        call()
    assert not written()


def test_a_broken_image_in_the_source_names_the_record(damaged, monkeypatch):
    call, folder, written = damaged
    encoded = record.png_bytes
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(record, "png_bytes", lambda image: encoded(image)[:100])
        TinyPictures(data_dir=str(folder.parents[1])).write()
    message = r"^data set tiny_pictures\[test\], record 0 \(.*\): the image cannot be decoded"
    with pytest.raises(errors.DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not written()
