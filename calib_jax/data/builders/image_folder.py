"""Any tree of image files in which folders are classes, as a TFDS data set."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

from calib_jax.core.errors import DataError
from calib_jax.data.builders.archives import Archive
from calib_jax.data.builders.image_files import ImageFile, ImageFiles, images_of

SPLITS = ("train", "training", "val", "validation", "valid", "test", "testing")
"""Folder names that are splits even where there is one only."""


def image_folder(
    name: str,
    archive: Archive,
    data_dir: pathlib.Path,
    *,
    class_of: Mapping[str, str] | None = None,
) -> ImageFiles:
    """A data set of images in `.../SPLIT/CLASS/FILE`, in the order of their paths.

    The folder of an image is its class. The folder above is its split, if there are several such
    folders (`train` and `val`; or domains: `photo`, `sketch`) or it is one of SPLITS; else the
    split is `test`. Ids are `SPLIT_CLASS_FILE`, without the file's suffix unless two
    differ in it alone; classes are those of all splits, or all of `class_of`, sorted.

    Args:
        name: Of the data set.
        archive: Holds the images.
        data_dir: Folder to write to.
        class_of: The class of a folder; None: its name.

    Raises:
        DataError: There are no images, or one lies in no class folder or in that of no class, or
            two folders would be one split.
    """
    paths = [tuple(path.split("/")) for path in images_of(archive)]
    shallow = [path for path in paths if len(path) < 2]
    if shallow:
        raise DataError(
            f"archive {archive.path}: {shallow[0][0]} lies in no folder, expected "
            ".../CLASS/FILE. Pass a folder of class folders."
        )
    split_of = _splits_of(archive, {path[:-2] for path in paths})
    folders = {path[-2] for path in paths}
    names = {folder: folder for folder in folders} if class_of is None else class_of
    unknown = sorted(folders - names.keys())
    if unknown:
        raise DataError(
            f"archive {archive.path}: got the folder {unknown[0]!r}, which is no class of {name}. "
            "Pass the official archive."
        )
    splits: dict[str, list[ImageFile]] = {split: [] for split in split_of.values()}
    taken: set[str] = set()
    for path in paths:
        split, folder = split_of[path[:-2]], path[-2]
        example_id = f"{split}_{folder}_{pathlib.PurePosixPath(path[-1]).stem}"
        if example_id in taken:  # 1.jpg beside 1.png
            example_id = f"{split}_{folder}_{path[-1]}"
        taken.add(example_id)
        splits[split].append(ImageFile("/".join(path), example_id, names[folder]))
    return ImageFiles(
        name,
        splits,
        class_names=sorted(set(names.values())),
        read=archive.read,
        description=f"The images of {archive.path.name}; their folders are the classes.",
        data_dir=data_dir,
    )


def _splits_of(archive: Archive, roots: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The split of every folder of class folders."""
    split_of = {root: _split_name(root, is_alone=len(roots) == 1) for root in sorted(roots)}
    if len(set(split_of.values())) < len(roots):
        shown = [f"{'/'.join(root) or '.'} ({split})" for root, split in split_of.items()]
        raise DataError(
            f"archive {archive.path}: class folders lie in {', '.join(shown[:4])}, expected one "
            "folder a split. Pass one of them."
        )
    return split_of


def _split_name(root: tuple[str, ...], *, is_alone: bool) -> str:
    own = root[-1] if root else ""
    if is_alone and own not in SPLITS:
        return "test"
    return re.sub(r"\W", "_", own) or "test"
