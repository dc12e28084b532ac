"""Trees of image files: what is the class, what is the split."""

import re

import pytest

from calib_jax.core.errors import DataError
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.image_files import ImageFiles
from calib_jax.data.builders.image_folder import image_folder
from calib_jax.data.datasets import pacs
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import RecordSplit, Split

CLASSES = {name: name for name in pacs.CLASS_NAMES}


def written(archive, data_dir, name="image_folder/tiny", **options):
    with open_archive(archive) as opened:
        builder = image_folder(name, opened, data_dir, **options)
        assert isinstance(builder, ImageFiles)
        builder.write()
        assert builder.is_written()


def rows(data_dir, split, name="image_folder/tiny"):
    images = ImageSplit(Split(name=name, split=split), [data_dir], image_size=4)
    records = RecordSplit(Split(name=name, split=split), [data_dir])
    return [
        (records.read(i).id, images.label_names[images.label(i)], int(images.image(i)[0, 0, 0]))
        for i in range(len(images))
    ]


def test_one_folder_of_classes_is_a_test_split(pack, picture, tmp_path):
    files = {
        "pets-1.0/dog/b.png": picture(1),
        "pets-1.0/big_cat/a.PNG": picture(2),
        "pets-1.0/dog/a.png": picture(3),
        "pets-1.0/readme.txt": b"",
    }
    written(pack(tmp_path / "pets.zip", files), tmp_path)
    assert rows(tmp_path, "test") == [
        ("test_big_cat_a", "big cat", 2),
        ("test_dog_a", "dog", 3),
        ("test_dog_b", "dog", 1),
    ]


def test_class_folders_at_the_top(pack, picture, tmp_path):
    written(pack(tmp_path / "pets", {"dog/1.png": picture(1)}), tmp_path)
    assert rows(tmp_path, "test") == [("test_dog_1", "dog", 1)]


def test_folders_above_the_classes_are_splits(pack, picture, tmp_path):
    files = {
        "x/train/dog/1.png": picture(1),
        "x/train/cat/1.png": picture(2),
        "x/val/dog/2.png": picture(3),
    }
    written(pack(tmp_path / "x.tar", files), tmp_path)
    assert rows(tmp_path, "train") == [("train_cat_1", "cat", 2), ("train_dog_1", "dog", 1)]
    assert rows(tmp_path, "val") == [("val_dog_2", "dog", 3)]


def test_a_lone_split_keeps_its_name(pack, picture, tmp_path):
    written(pack(tmp_path / "x", {"train/dog/1.png": picture(1)}), tmp_path)
    assert rows(tmp_path, "train") == [("train_dog_1", "dog", 1)]


def test_the_layout_of_pacs(pack, picture, tmp_path):
    files = {
        "PACS/kfold/photo/person/253_0201.jpg": picture(1),
        "PACS/kfold/art_painting/dog/pic_001.jpg": picture(2),
        "PACS/splits/photo_train_kfold.txt": b"photo/person/253_0201.jpg 7",
    }
    written(pack(tmp_path / "PACS.zip", files), tmp_path, "pacs", class_of=CLASSES)
    assert rows(tmp_path, "photo", "pacs") == [("photo_person_253_0201", "person", 1)]
    assert rows(tmp_path, "art_painting", "pacs") == [("art_painting_dog_pic_001", "dog", 2)]


def test_classes_by_another_name(pack, picture, tmp_path):
    archive = pack(tmp_path / "x", {"10/a.png": picture(1), "9/a.png": picture(2)})
    written(archive, tmp_path, class_of={"9": "nine", "10": "ten", "11": "eleven"})
    assert rows(tmp_path, "test") == [("test_10_a", "ten", 1), ("test_9_a", "nine", 2)]
    images = ImageSplit(Split(name="image_folder/tiny"), [tmp_path], image_size=4)
    assert images.label_names == ("eleven", "nine", "ten")  # also those without an image
    with (
        open_archive(archive) as opened,
        pytest.raises(DataError, match=r"got the folder '9', which is no class of x\. Pass the of"),
    ):
        image_folder("x", opened, tmp_path, class_of={"10": "ten"})


def test_domains_are_splits(pack, picture, tmp_path):
    files = {
        f"{domain}/{name}/1.png": picture(1) for domain in ("photo", "sketch") for name in "ab"
    }
    written(pack(tmp_path / "x", files), tmp_path)
    for domain in ("photo", "sketch"):
        assert [row[:2] for row in rows(tmp_path, domain)] == [
            (f"{domain}_a_1", "a"),
            (f"{domain}_b_1", "b"),
        ]


def test_folders_in_a_class_are_part_of_the_ids(pack, picture, tmp_path):
    files = {"a/1.png": picture(1), "a/b/1.png": picture(2), "a/b_1.png": picture(3)}
    written(pack(tmp_path / "x.zip", {**files, "b/1.png": picture(4)}), tmp_path)
    assert rows(tmp_path, "test") == [
        ("test_a_1", "a", 1),
        ("test_a_b_1", "a", 2),
        ("test_a_b_1.png", "a", 3),
        ("test_b_1", "b", 4),
    ]


def test_what_is_left_out_is_counted_and_named(pack, picture, tmp_path):
    names = ("train/a/1.png", "train/b/1.png", "train/9.png", "test/1.png", "test/2.png")
    path = pack(tmp_path / "x", dict.fromkeys(names, picture(1)))
    for name in ("a.txt", "b.csv", "train/c.md", ".DS_Store", "train/a/.ipynb_checkpoints/1.png"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"")
    (path / "train/c/inner").mkdir(parents=True)
    (path / "train/b/2.png").symlink_to("missing.png")
    (path / "train/b/up").symlink_to("..")
    expected = (
        "left out: 3 other files (a.txt, b.csv, ...), "
        "2 hidden files (.DS_Store, train/a/.ipynb_checkpoints/), "
        "1 broken link (train/b/2.png), 1 circular link (train/b/up), "
        "1 stray image (train/9.png), 2 unlabelled images (test/1.png, test/2.png), "
        "1 imageless folder (train/c)"
    )
    with open_archive(path) as opened:
        builder = image_folder("image_folder/x", opened, tmp_path)
    assert builder.remarks == (expected,)
    assert builder.info.description == (
        f"The images of x; their folders are the classes. {expected}."
    )


def test_two_forms_of_a_name_are_one_class(pack, picture, tmp_path):
    """What macOS calls a class and what Linux calls it is the same class."""
    files = {"train/cafe\u0301/1.png": picture(1), "val/caf\xe9/1.png": picture(2)}
    written(pack(tmp_path / "y.tar", files), tmp_path)
    assert rows(tmp_path, "train")[0][:2] == ("train_caf\xe9_1", "caf\xe9")
    assert rows(tmp_path, "val")[0][:2] == ("val_caf\xe9_1", "caf\xe9")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\rb", " a", "a ", "\u3000a", "a\x85", "a\u2028b", "\x1b"]
)
def test_names_that_tfds_cannot_keep(pack, picture, tmp_path, name):
    archive = pack(tmp_path / "x.tar", {f"{name}/1.png": picture(1), "b/1.png": picture(2)})
    message = (
        rf"^image_folder/x: got the class name {re.escape(ascii(name))}, expected text without "
        r"blanks at its ends and without control characters\. Rename the folder\."
    )
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        image_folder("image_folder/x", opened, tmp_path)


def test_names_that_differ_by_underscores(pack, picture, tmp_path):
    archive = pack(tmp_path / "x", {"big cat/1.png": picture(1), "big_cat/1.png": picture(2)})
    message = r"^x: got the class names 'big cat' and 'big_cat', which are one with spaces for"
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        image_folder("x", opened, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a\n/1.png", "train/b/1.png"], r"got the folder a\\n beside the split train, which"),
        (["notes.txt"], r"^archive .*: it holds no image \(.jpg, .*\)\. Pass another\."),
        (
            ["1.png", "2.png"],
            r"^archive .*: got 1\.png, which lies in no class folder, expected \.\.\./CLASS/FILE "
            r"or \.\.\./train/CLASS/FILE\. It holds 2 \(folders, and numbers of images\)\. M",
        ),
        (
            ["x/test/dog/1.png", "y/test/dog/1.png"],
            r"got 2 folders around or beside x/test, .* It holds \{x: \{test: \{dog: 1\}\}, y: ",
        ),
    ],
)
def test_another_layout(pack, picture, tmp_path, names, message):
    archive = pack(tmp_path / "x", dict.fromkeys(names, picture(1)))
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        image_folder("x", opened, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["1.png", "dog/2.png"],
            r"1\.png lies in no folder, expected \.\.\./CLASS/FILE\. Pass a fo",
        ),
        (
            ["x/test/dog/1.png", "y/test/dog/1.png"],
            r"lie in x/test \(test\), y/test \(test\), expected one folder a split\. Pass one",
        ),
    ],
)
def test_another_layout_of_known_classes(pack, picture, tmp_path, names, message):
    archive = pack(tmp_path / "x", dict.fromkeys(names, picture(1)))
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        image_folder("pacs", opened, tmp_path, class_of=CLASSES)
