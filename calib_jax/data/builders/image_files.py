"""Labelled image files of an archive as a TFDS data set, their bytes as they are."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from calib_jax.core.errors import DataError
from calib_jax.data.builders import record
from calib_jax.data.builders.archives import Archive
from calib_jax.data.images import is_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image of an archive.

    Attributes:
        path: Inside the archive.
        id: What the example is called.
        label: The name of its class.
        answers: All its classes, where one is not the whole answer.
    """

    path: str
    id: str
    label: str
    answers: tuple[str, ...] = ()


class ImageFiles(record.RecordBuilder):
    """Image files in the order given, with ids and labels; `answers` where the files have them."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Sequence[ImageFile]],
        *,
        class_names: Sequence[str],
        read: Callable[[str], bytes],
        description: str,
        data_dir: pathlib.Path,
    ) -> None:
        """A builder.

        Args:
            name: Of the data set, as `Split` names it: `objectnet`, `image_folder/pets`.
            splits: The files of every split.
            class_names: In the order of the labels.
            read: The encoded image of a path.
            description: What it is, for dataset_info.json.
            data_dir: Folder to write to.
        """
        self.name, _, config = name.partition("/")
        self._splits, self._class_names, self._read = dict(splits), list(class_names), read
        self._description = description
        self._config = tfds.core.BuilderConfig(name=config) if config else None
        super().__init__(config=self._config, data_dir=str(data_dir))

    def get_builder_config(
        self, name: str, version: str | None = None
    ) -> tfds.core.BuilderConfig | None:
        """The config that it was made with; TFDS warns of one that it does not find here."""
        del name, version
        return self._config

    def num_examples(self) -> int:
        """The files of all splits."""
        return sum(map(len, self._splits.values()))

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=self._class_names),
        }
        if any(file.answers for files in self._splits.values() for file in files):
            label = tfds.features.ClassLabel(names=self._class_names)
            features["answers"] = tfds.features.Sequence(label)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._description,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the order of the archive
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(files) for split, files in self._splits.items()}

    def _generate_examples(
        self, files: Sequence[ImageFile]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, file in enumerate(files):
            data = self._read(file.path)
            if not is_image(data):
                raise DataError(
                    f"archive: {file.path} is no image, or one of an unknown format. Replace it."
                )
            example = {"id": file.id, "image": data, "label": file.label}
            if file.answers:
                example["answers"] = list(file.answers)
            yield index, example


def images_of(archive: Archive) -> list[str]:
    """The image files of an archive, by their suffix.

    Raises:
        DataError: There is none.
    """
    names = [name for name in archive.names if name.lower().endswith(SUFFIXES)]
    if not names:
        raise DataError(
            f"archive {archive.path}: it holds no image ({', '.join(SUFFIXES)}). Pass another."
        )
    return names
