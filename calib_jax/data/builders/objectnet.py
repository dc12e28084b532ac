"""ObjectNet (Barbu et al., NeurIPS 2019): the images whose class ImageNet has too.

The archive's own tables map a folder to an ObjectNet label, this to names of ImageNet classes, and
a name to a place among the sorted WordNet ids. 113 of the 313 classes have one or several.
"""

from __future__ import annotations

import collections
import pathlib
from typing import Any

import numpy as np

from calib_jax.core import text_files
from calib_jax.core.errors import DataError
from calib_jax.data import images
from calib_jax.data.builders import record
from calib_jax.data.builders.archives import Archive
from calib_jax.data.builders.image_files import ImageFile, ImageFiles, images_of
from calib_jax.data.datasets.imagenet import WORDNET_IDS

FRAME = 2
"""Width in pixels of the red frame that marks every image as one not to train on."""


def objectnet(archive: Archive, data_dir: pathlib.Path) -> ImageFiles:
    """The data set `objectnet[test]`: images without their red frame, as PNG.

    A class is called by its WordNet ids, several with spaces between, in the order of its folder's
    name. Ids are `FOLDER_FILE`.

    Args:
        archive: What objectnet-1.0.zip unpacks to; the .zip itself is encrypted.
        data_dir: Folder to write to.

    Raises:
        DataError: The tables are missing or do not fit together, or a mapped folder has no images.
    """
    ids_of = _ids_of_folders(archive)
    files = []
    for path in images_of(archive):
        *_, folder, name = ("", *path.split("/"))
        if folder in ids_of:
            stem = pathlib.PurePosixPath(name).stem
            files.append(ImageFile(path, f"{folder}_{stem}", ids_of[folder]))
    missing = ids_of.keys() - {file.path.split("/")[-2] for file in files}
    if missing:
        raise DataError(
            f"archive {archive.path}: no image in images/{min(missing)}, one of its {len(ids_of)} "
            "folders with ImageNet classes. Unpack it whole."
        )
    return ImageFiles(
        "objectnet",
        {"test": files},
        class_names=[ids_of[folder] for folder in sorted(ids_of)],
        read=archive.read,
        description="ObjectNet's images of ImageNet classes, without their red frame.",
        data_dir=data_dir,
        convert=lambda data, path: _without_frame(data, f"archive {archive.path}, {path}"),
    )


def _ids_of_folders(archive: Archive) -> dict[str, str]:
    """The WordNet ids of every folder that has any, with spaces between."""
    folders = _table(archive, "folder_to_objectnet_label.json")
    names = _table(archive, "objectnet_to_imagenet_1k.json")
    places = _table(archive, "pytorch_to_imagenet_2012_id.json")
    lines = text_files.lines(archive.read(archive.only("imagenet_to_label_2012_v2")))
    index_of_line = {line: int(index) for index, line in places.items()}
    lines_of = collections.defaultdict(list)
    for line, name in enumerate(lines):
        lines_of[name.strip()].append(line)
    ids = {}
    for folder, label in folders.items():
        if label not in names:
            continue
        found = []
        for name in names[label].split("; "):
            if len(lines_of[name]) != 1:
                raise DataError(
                    f"archive {archive.path}: imagenet_to_label_2012_v2 has the class {name!r} "
                    f"{len(lines_of[name])} times, expected once. Download it again."
                )
            found.append(WORDNET_IDS[index_of_line[lines_of[name][0]]])
        ids[folder] = " ".join(found)
    return ids


def _table(archive: Archive, file: str) -> dict[str, Any]:
    text = archive.read(archive.only(file))
    try:
        table: dict[str, Any] = text_files.parse_json(text)
    except ValueError as error:
        raise DataError(
            f"archive {archive.path}: {file} cannot be read: {error}. Download it again."
        ) from error
    return table


def _without_frame(encoded: bytes, where: str) -> bytes:
    pixels = images.decode(encoded, where=where)
    if min(pixels.shape[:2]) <= 2 * FRAME:
        raise DataError(
            f"{where}: got {pixels.shape[1]} x {pixels.shape[0]} pixels, expected more than its "
            "red frame. Use the official images, unchanged."
        )
    return record.png_bytes(np.ascontiguousarray(pixels[FRAME:-FRAME, FRAME:-FRAME]))
