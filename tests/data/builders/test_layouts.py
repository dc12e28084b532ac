"""Drawn trees against a copy of ImageFolder's rule, and trees that can be read in two ways."""

import collections
import os

import numpy as np
import pytest

from calib_jax.data.builders import layouts
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.image_files import SUFFIXES, images_in

NAMES = ("cat", "dog", "big cat", "Zebra", "café", "7")
INNER = ("more", "a", "b", "dog")
ENDS = (".jpg", ".JPEG", ".ppm", ".jfif", ".png", ".txt", ".tif")


def image_folder_of(root):
    """(class, number of images) of torchvision 0.25's ImageFolder; classes without one left out."""
    found = {}
    for name in sorted(entry.name for entry in os.scandir(root) if entry.is_dir()):
        files = [
            file
            for _, _, files in sorted(os.walk(root / name, followlinks=True))
            for file in sorted(files)
            if file.lower().endswith(SUFFIXES)
        ]
        files = [file for file in files if file != "gone.jpg"]  # a link to nothing
        if files:
            found[name] = sorted(files)
    return found


def draw_folder(rng, folder, depth=0):
    """Files with numbers, folders in it, a link to nothing or to a file."""
    folder.mkdir(parents=True)
    for _ in range(rng.integers(0 if depth else 1, 4)):
        number = len(list(folder.iterdir()))
        (folder / f"{number}{rng.choice(ENDS)}").write_bytes(b"x")
    files = [file for file in folder.iterdir() if file.is_file()]
    if files and rng.random() < 0.15:
        (folder / f"link{files[0].suffix}").symlink_to(files[0].name)
    if rng.random() < 0.1:
        (folder / "gone.jpg").symlink_to("nowhere")
    if depth < 2 and rng.random() < 0.3:
        for name in rng.choice(INNER, rng.integers(1, 3), replace=False):
            draw_folder(rng, folder / name, depth + 1)


def draw_tree(rng, top):
    """The folders of classes by the split that a reader should find."""
    node = top
    for _ in range(rng.integers(3)):
        node = node / f"wrapper{rng.integers(3)}"
    splits = {"test": node}
    if rng.random() < 0.6:
        names = rng.choice(["train", "val", "test"], rng.integers(1, 4), replace=False)
        splits = {str(name): node / name for name in names}
    for split in splits.values():
        for name in rng.choice(NAMES, rng.integers(2, 5), replace=False):
            draw_folder(rng, split / name)
            if rng.random() < 0.1:
                (split / f"{name}2").symlink_to(name)
    for place in (node, *splits.values()):
        if rng.random() < 0.3:
            (place / rng.choice(["stray.jpg", "notes.txt"])).write_bytes(b"x")
    if rng.random() < 0.2:
        (node / "docs").mkdir()
        (node / "docs" / "README.md").write_bytes(b"x")
    return splits


def read_as(layout):
    found = {split: collections.defaultdict(list) for split in layout.splits}
    for split, pairs in layout.splits.items():
        for folder, path in pairs:
            found[split][folder.rpartition("/")[2]].append(path.rpartition("/")[2])
    return {s: {name: sorted(files) for name, files in own.items()} for s, own in found.items()}


def check_trees(num_trees, tmp_path, packed):
    """Every tree is read as ImageFolder reads it, from each kind of archive, or refused."""
    num_refused = 0
    for seed in range(num_trees):
        rng = np.random.default_rng(seed)
        top = tmp_path / f"tree{seed}"
        splits = draw_tree(rng, top)
        expected = {name: image_folder_of(split) for name, split in splits.items()}
        expected = {name: classes for name, classes in expected.items() if classes}
        outcomes = []
        for kind in ("folder", "tar" if seed % 2 else "zip"):
            with open_archive(packed(top, kind)) as archive:
                try:
                    outcomes.append(layouts.layout(images_in(archive)))
                except layouts.LayoutError as error:
                    outcomes.append(str(error))
        assert outcomes[0] == outcomes[1], seed
        if isinstance(outcomes[0], str):
            num_refused += 1
            continue
        remark, read = outcomes[0].remark, read_as(outcomes[0])
        # A lone class that holds folders alone is taken for a folder around classes, and so said.
        lone = [name for classes in expected.values() for name in classes]
        is_around = len(lone) == 1 and "the folders in" in remark and lone[0] in remark
        assert read == expected or "are splits" in remark or is_around, (seed, top)
    assert num_refused < 0.15 * num_trees


def test_drawn_trees(tmp_path, packed):
    check_trees(100, tmp_path, packed)


@pytest.mark.many
def test_many_drawn_trees(tmp_path, packed):
    check_trees(1000, tmp_path, packed)


TREES = [
    # (paths, what is read: {split: classes}, what is left out)
    (["a/1.jpg", "b/1.jpg"], {"test": "ab"}, ""),
    (
        ["pets/a/1.jpg", "pets/a/2.jpg", "pets/b/1.jpg", "pets/b/2.jpg", "pets/preview.jpg"],
        {"test": "ab"},
        "pets/preview.jpg",
    ),
    (["train/a/1.jpg", "train/b/1.jpg", "test/1.jpg"], {"train": "ab"}, "test/1.jpg"),
    (["x/train/a/1.jpg", "x/test1/1.jpg", "x/test1/2.jpg"], {"train": "a"}, "x/test1/1.jpg"),
    (["train/a/1.jpg", "train/b/1.jpg", "test/test/1.jpg"], {"train": "ab"}, "test/test/1.jpg"),
    (["train/a/1.jpg", "train/9.jpg", "val/a/1.jpg"], {"train": "a", "val": "a"}, "train/9.jpg"),
    (["Training/a/1.jpg", "Testing/a/b/1.jpg"], {"Training": "a", "Testing": "a"}, ""),
    (["train/train/a/1.jpg", "test/test/a/1.jpg"], {"train": "a", "test": "a"}, ""),
    (["train/a/1.jpg", "corrupted/a/1.jpg"], {"train": "a", "corrupted": "a"}, ""),
    # The vehicle, not the split.
    (["bus/1.jpg", "car/1.jpg", "train/1.jpg"], {"test": ["bus", "car", "train"]}, ""),
    (["a/x/1.jpg", "b/1.jpg", "b/2.jpg"], {"test": "ab"}, ""),
    (["a/more/1.jpg", "b/more/1.jpg"], {"test": "ab"}, ""),
    (["photo/a/1.jpg", "photo/b/1.jpg", "art work/a/1.jpg", "art work/b/1.jpg"],
     {"photo": "ab", "art_work": "ab"}, ""),
]  # fmt: skip


def test_a_folder_around_the_classes_is_named():
    layout = layouts.layout(["x/pets/a/1.jpg", "x/pets/b/1.jpg"])
    assert layout.remark == "the classes are the folders in x/pets"
    layout = layouts.layout(["pets/a/c/1.jpg", "pets/b/d/1.jpg"])
    assert layout.remark == ("the classes are the folders in pets; folders in them belong to them")


@pytest.mark.parametrize(("paths", "splits", "left_out"), TREES)
def test_a_tree(paths, splits, left_out):
    layout = layouts.layout(sorted(paths))
    assert {split: sorted(own) for split, own in read_as(layout).items()} == {
        split: list(classes) for split, classes in splits.items()
    }
    names = [path for paths in layout.left_out.values() for path in paths]
    assert names[:1] == ([left_out] if left_out else [])
    num_read = sum(len(pairs) for pairs in layout.splits.values())
    assert num_read + len(names) == len(paths)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("1.jpg", r"got 1\.jpg, which lies in no class folder"),
        ("train/1.jpg, test/1.jpg", r"got test/1\.jpg, which lies in no class folder"),
        # Kaggle's: the classes are in the files' names, or in a table.
        ("train/cat.0.jpg, train/dog.0.jpg, test1/0.jpg", r"which lies in no class folder"),
        ("train_images/0.jpg, test_images/0.jpg", r"which lies in no class folder"),
        (
            "cat/train/1.jpg, cat/test/1.jpg, dog/train/1.jpg, dog/test/1.jpg",
            r"got 2 folders around or beside cat/test",
        ),
        (
            "x/a/1.jpg, x/b/1.jpg, x/1.jpg",
            r"got 1 images beside the folders in x, which may be a cl",
        ),
        ("x/test/a/1.jpg, y/test/a/1.jpg", r"got 2 folders around or beside x/test"),
        (
            "train/a/1.jpg, bus/1.jpg",
            r"got the folder bus beside the split train, which may be a sp",
        ),
        ("train/a/1.jpg, extra/b/1.jpg", r"got the folder extra beside the split train"),
        (
            "train/a/1.jpg, train/b/1.jpg, test/images/1.jpg",
            r"got the one folder images in test, which is no class of another split",
        ),
        (
            "x/a/1.jpg, x/b/1.jpg, y/a/1.jpg, y/b/1.jpg, z/1.jpg",
            r"names in x, y, which may be classes",
        ),
        ("a b/x/1.jpg, a b/y/1.jpg, a_b/x/1.jpg, a_b/y/1.jpg", r"got two folders of the split a_b"),
    ],
)
def test_a_tree_of_several_readings(paths, message):
    with pytest.raises(layouts.LayoutError, match=message):
        layouts.layout(sorted(paths.split(", ")))


def test_the_drawing_of_a_tree_is_short():
    paths = [f"{split}/{name}/{number}.jpg" for split in ("train", "x") for name in "abcdef"
             for number in range(3)]  # fmt: skip
    drawn = layouts.Folder(images=sorted([*paths, "9.jpg", "x/a/b/c/d.jpg"])).drawn()
    assert drawn == (
        "{1, train: {a: 3, b: 3, c: 3, d: 3, ...}, x: {a: {3, b: 1}, b: 3, c: 3, d: 3, ...}}"
    )
