"""Any tree of image files in which folders are classes, as a TFDS data set."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence

from calib_jax.core.errors import DataError
from calib_jax.data.builders import layouts
from calib_jax.data.builders.archives import Archive
from calib_jax.data.builders.image_files import ImageFile, ImageFiles, images_in
from calib_jax.data.builders.listings import readable

Paths = Mapping[str, Sequence[tuple[str, str]]]
"""The paths of the class folder and of the file of every image, by the split."""


def image_folder(
    name: str,
    archive: Archive,
    data_dir: pathlib.Path,
    *,
    class_of: Mapping[str, str] | None = None,
) -> ImageFiles:
    """A data set of images in `.../CLASS/FILE` or `.../SPLIT/CLASS/FILE`, as `layouts` reads them.

    Folders in a class folder belong to that class. A lone split keeps its name if that is one of
    `layouts.SPLITS`, else it is `test`. Ids are `SPLIT_CLASS_FILE`, without the file's suffix
    unless two differ in it alone; classes are those of all splits, or all of `class_of`, sorted.
    What is left out is counted in the description.

    Args:
        name: Of the data set.
        archive: Holds the images.
        data_dir: Folder to write to.
        class_of: The class of a folder; None: its name.

    Raises:
        DataError: There are no images, or the layout is none that `layouts` reads, or one lies in
            the folder of no class.
    """
    images = images_in(archive)
    if class_of is None:
        try:
            layout = layouts.layout(images)
        except layouts.LayoutError as error:
            raise DataError(
                f"archive {archive.path}: {readable(str(error))}, expected .../CLASS/FILE or "
                f".../train/CLASS/FILE. It holds {layouts.Folder(images=images).drawn()} "
                "(folders, and numbers of images). Move what is no class or split elsewhere."
            ) from None
        splits, left_out, remark = layout.splits, dict(layout.left_out), layout.remark
        names = {_name(folder) for paths in splits.values() for folder, _ in paths}
        class_of = {own: own for own in names}
    else:
        splits, left_out, remark = _of_known(name, archive, images, class_of), {}, ""
    left_out["imageless folder"] = _without_image(archive.folders, images)
    return ImageFiles(
        name,
        {split: _files(split, paths, class_of) for split, paths in splits.items()},
        class_names=sorted(set(class_of.values())),
        read=archive.read,
        description=f"The images of {archive.path.name}; their folders are the classes.",
        data_dir=data_dir,
        remarks=[readable(remark), left_out_of(archive, left_out)],
    )


def left_out_of(archive: Archive, others: Mapping[str, Sequence[str]]) -> str:
    """What is left out of a data set, counted and the first two named; empty if nothing is.

    Args:
        archive: Says what it left out, and which files are no images.
        others: Further paths by the reason, in the singular.
    """
    is_image = set(images_in(archive))
    other_files = [path for path in archive.names if path not in is_image]
    reasons = {"other file": other_files, **archive.left_out, **others}
    parts = [
        f"{len(paths):,} {reason}{'s' * (len(paths) > 1)} "
        f"({', '.join(map(readable, paths[:2]))}{', ...' * (len(paths) > 2)})"
        for reason, paths in reasons.items()
        if paths
    ]
    return f"left out: {', '.join(parts)}" if parts else ""


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]


def _without_image(folders: Sequence[str], images: Sequence[str]) -> list[str]:
    """The folders that hold no image, without those in one of them."""
    filled = {""}
    for image in images:
        folder = image.rpartition("/")[0]
        while folder not in filled:
            filled.add(folder)
            folder = folder.rpartition("/")[0]
    return [
        folder for folder in folders if folder not in filled and folder.rpartition("/")[0] in filled
    ]


def _files(
    split: str, paths: Sequence[tuple[str, str]], class_of: Mapping[str, str]
) -> list[ImageFile]:
    """The images of a split, sorted by their paths."""
    files, taken = [], set[str]()
    for folder, path in sorted(paths, key=lambda pair: pair[1]):
        inner = path[len(folder) + 1 :]  # folders in the class folder are part of the name
        stem = inner.rpartition(".")[0]
        ids = [f"{split}_{_name(folder)}_{end.replace('/', '_')}" for end in (stem, inner)]
        example_id = next(one for one in (*ids, path) if one not in taken)  # 1.jpg beside 1.png
        taken.add(example_id)
        files.append(ImageFile(path, example_id, class_of[_name(folder)]))
    return files


def _of_known(
    name: str, archive: Archive, images: Sequence[str], class_of: Mapping[str, str]
) -> Paths:
    """The images of class folders with known names; the folders above them are the splits."""
    found = []
    for path in images:
        *folders, file = path.split("/")
        if not folders:
            raise DataError(
                f"archive {archive.path}: {file} lies in no folder, expected .../CLASS/FILE. Pass "
                "a folder of class folders."
            )
        depth = next((i for i, folder in enumerate(folders) if folder in class_of), None)
        if depth is None:
            raise DataError(
                f"archive {archive.path}: got the folder {folders[-1]!r}, which is no class of "
                f"{name}. Pass the official archive."
            )
        found.append((tuple(folders[:depth]), "/".join(folders[: depth + 1]), path))
    split_of = _splits_of(archive, {root for root, *_ in found})
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in split_of.values()}
    for root, folder, path in found:
        splits[split_of[root]].append((folder, path))
    return splits


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
    if is_alone and own.lower() not in layouts.SPLITS:
        return "test"
    return re.sub(r"\W", "_", own) or "test"
