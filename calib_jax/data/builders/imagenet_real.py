"""ImageNet-ReaL (Beyer et al., arXiv 2006.07159): the validation images with all right labels.

TFDS's `imagenet2012_real` needs TensorFlow and keeps the images that have no right label.
"""

from __future__ import annotations

import pathlib

from calib_jax.core import text_files
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.builders.archives import Archive
from calib_jax.data.builders.image_files import ImageFile, ImageFiles, images_of
from calib_jax.data.datasets.imagenet import WORDNET_IDS


def imagenet_real(archive: Archive, data_dir: pathlib.Path) -> ImageFiles:
    """The data set `imagenet_real[validation]`, without the images that ReaL found no label for.

    `answers` are an example's right labels, `label` is the first of them.

    Args:
        archive: ILSVRC2012_img_val.tar, beside which real.json lies: for every image, in the order
            of the file names, a list of classes.
        data_dir: Folder to write to.

    Raises:
        ConfigError: There is no real.json.
        DataError: It does not fit the images.
    """
    file = archive.path.parent / "real.json"
    if not file.is_file():
        raise ConfigError(
            f"imagenet_real: no {file}. Download real.json of "
            "github.com/google-research/reassessed-imagenet and put it beside the archive."
        )
    paths, answers = images_of(archive), _read_answers(file)
    expected = [f"ILSVRC2012_val_{number + 1:08}.JPEG" for number in range(len(answers))]
    if [path.rpartition("/")[2] for path in paths] != expected:
        raise DataError(
            f"archive {archive.path}: got {len(paths)} images from {paths[0]} on, expected "
            f"{len(answers)} from {expected[0]} on, as in {file.name}. Use ILSVRC2012_img_val.tar."
        )
    return ImageFiles(
        "imagenet_real",
        {
            "validation": [
                ImageFile(path, pathlib.PurePosixPath(path).stem, ids[0], ids)
                for path, ids in zip(paths, answers, strict=True)
                if ids
            ]
        },
        class_names=WORDNET_IDS,
        read=archive.read,
        description="ImageNet validation images with the labels of ReaL.",
        data_dir=data_dir,
    )


def _read_answers(file: pathlib.Path) -> list[tuple[str, ...]]:
    """The WordNet ids of every image's right labels."""
    try:
        rows = text_files.parse_json(file.read_bytes())
        if not rows or not all(0 <= index < len(WORDNET_IDS) for row in rows for index in row):
            raise ValueError("a class is out of range, or there are none")
        return [tuple(WORDNET_IDS[index] for index in row) for row in rows]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{file}: got {error}, expected a list of lists of classes 0 to 999. Download it again."
        ) from error
