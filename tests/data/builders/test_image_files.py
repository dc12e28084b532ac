"""Files become examples in the order given, bytes unchanged."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from calib_jax.core.errors import DataError
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.image_files import (
    ImageFile,
    ImageFiles,
    check_class_names,
    images_of,
)
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import RecordSplit, Split


def test_examples_are_the_files(picture, tmp_path):
    data = {"z.png": picture(1), "a.png": picture(2, side=6)}
    files = [ImageFile("z.png", "last", "big dog"), ImageFile("a.png", "first", "ant")]
    builder = ImageFiles(
        "kinds/some",
        {"test": files},
        class_names=("ant", "big dog"),
        read=data.__getitem__,
        description="Two.",
        data_dir=tmp_path,
    )
    builder.write()
    split = Split(name="kinds/some")
    records = RecordSplit(split, [tmp_path])
    read = [records.read(index) for index in range(2)]
    assert [(one.id, one.label, one.encoded, one.answers) for one in read] == [
        ("last", 1, data["z.png"], ()),
        ("first", 0, data["a.png"], ()),
    ]
    images = ImageSplit(split, [tmp_path], image_size=4)
    assert images.answers() is None and images.groups is None


def test_images_go_by_their_suffix(pack, tmp_path):
    names = ("a.JPEG", "b.jpg", "c.webp", "d.txt", "e")
    with open_archive(pack(tmp_path / "x", dict.fromkeys(names, b""))) as archive:
        assert images_of(archive) == ["a.JPEG", "b.jpg", "c.webp"]
    with (
        open_archive(pack(tmp_path / "y", {"d.txt": b""})) as archive,
        pytest.raises(DataError, match=r"^archive .*y: it holds no image \(.jpg, .*\)\. Pass anot"),
    ):
        images_of(archive)


def test_no_image_of_an_official_archive_is_missing(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.jpg").touch()
    (tmp_path / "x/b.jpg").symlink_to("c.jpg")
    message = (
        r"got 1 broken links, first b\.jpg, expected the images\. Pass the official archive, or"
    )
    with open_archive(tmp_path / "x") as archive, pytest.raises(DataError, match=message):
        images_of(archive)


def check_names(num_draws, tmp_path):
    """Names that are taken come back from TFDS's file, and are apart where labels are compared."""
    letters = [
        "a",
        "b",
        "\xe9",
        "e\u0301",
        "_",
        " ",
        "\t",
        "\n",
        "\r",
        "\x0b",
        "\x1c",
        "\x85",
        "\u2028",
    ]
    letters += ["\u3000", "\xa0", "\ufeff", "\udce9", "\0", "\u200b", "/"]
    share = np.array([9, 9, 2, 2, 3, 2, *[0.3] * (len(letters) - 6)])
    num_taken = 0
    for seed in range(num_draws):
        rng = np.random.default_rng(seed)
        drawn = [
            "".join(rng.choice(letters, rng.integers(1, 5), p=share / share.sum()))
            for _ in range(3)
        ]
        names = sorted(set(drawn))
        try:
            check_class_names("x", names)
        except DataError as error:
            assert "\n" not in str(error)
            continue
        num_taken += 1
        tfds.features.ClassLabel(names=names).save_metadata(tmp_path, "label")
        read = tfds.features.ClassLabel(num_classes=len(names))
        read.load_metadata(tmp_path, "label")
        assert read.names == names
        assert len({name.replace("_", " ") for name in names}) == len(names)
    assert num_taken > num_draws / 10


def test_drawn_names(tmp_path):
    check_names(100, tmp_path)


@pytest.mark.many
def test_many_drawn_names(tmp_path):
    check_names(1000, tmp_path)


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_a_class_name_that_cannot_be_kept(name):
    with pytest.raises(
        DataError, match="^x: got the class name '.*', expected text without blanks"
    ):
        check_class_names("x", ["a", name])
