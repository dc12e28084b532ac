"""Files become examples in the order given, bytes unchanged."""

import pytest

from calib_jax.core.errors import DataError
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.image_files import ImageFile, ImageFiles, images_of
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
