"""ImageNet-C as published (Hendrycks & Dietterich, ICLR 2019): 224 x 224 JPEG files.

TFDS's `imagenet2012_corrupted` draws its own corruptions instead, with TensorFlow and ImageMagick.
"""

from __future__ import annotations

import pathlib
import re

from calib_jax.core.errors import DataError
from calib_jax.data.builders.archives import Archive
from calib_jax.data.builders.image_files import ImageFile, ImageFiles, images_of
from calib_jax.data.datasets.imagenet import WORDNET_IDS

_PATH = re.compile(r"(?:.*/)?(?P<corruption>[a-z_]+)/(?P<severity>[1-5])/(?P<id>n\d{8})/[^/]+")
_IDS = frozenset(WORDNET_IDS)


def imagenet_c(archive: Archive, data_dir: pathlib.Path) -> list[ImageFiles]:
    """A data set `imagenet_c/CORRUPTION_SEVERITY` for each that the archive holds.

    Args:
        archive: One of blur.tar, digital.tar, extra.tar, noise.tar and weather.tar, or a folder
            with what they unpack to: `[.../]CORRUPTION/SEVERITY/WORDNET_ID/FILE`.
        data_dir: Folder to write to.

    Raises:
        DataError: An image lies elsewhere, or in a folder that is no class of ImageNet-1k.
    """
    files: dict[str, list[ImageFile]] = {}
    for path in images_of(archive):
        found = _PATH.fullmatch(path)
        if found is None or found["id"] not in _IDS:
            raise DataError(
                f"archive {archive.path}: got {path}, expected CORRUPTION/SEVERITY/WORDNET_ID/FILE "
                "as in ImageNet-C's blur.tar. Pass an official archive."
            )
        copy = f"{found['corruption']}_{found['severity']}"
        example_id = pathlib.PurePosixPath(path).stem
        files.setdefault(copy, []).append(ImageFile(path, example_id, found["id"]))
    return [
        ImageFiles(
            f"imagenet_c/{copy}",
            {"test": files[copy]},
            class_names=WORDNET_IDS,  # all, even if only some were unpacked
            read=archive.read,
            description=f"ImageNet-C: {copy}.",
            data_dir=data_dir,
        )
        for copy in sorted(files)
    ]
