"""Labelled image files of an archive as a TFDS data set, their bytes as they are or converted."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from calib_jax.core import progress
from calib_jax.core.errors import DataError
from calib_jax.data.builders import record
from calib_jax.data.builders.archives import Archive
from calib_jax.data.builders.listings import readable
from calib_jax.data.images import decode, identify

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif"),
    *(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
)
"""What image files end with, in whatever case."""

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # categories of characters: controls, and ends of lines

Convert = Callable[[bytes, str], bytes]

_AT_ONCE = 32  # files in memory while they are checked
_NUM_SHOWN = 3


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
        convert: Convert | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        """A builder.

        Args:
            name: Of the data set, as `Split` names it: `objectnet`, `image_folder/pets`.
            splits: The files of every split.
            class_names: In the order of the labels.
            read: The encoded image of a path.
            description: What it is, for dataset_info.json.
            data_dir: Folder to write to.
            convert: What is stored for a file's content; it also gets the path, for messages.
            remarks: What was decided and left out, which the description ends with.

        Raises:
            DataError: A class name cannot be kept, or two are one.
        """
        check_class_names(name, class_names)
        self.name, _, config = name.partition("/")
        self._whole_name, self._root, self._convert = name, data_dir, convert
        self.remarks = tuple(remark for remark in remarks if remark)
        self._splits, self._class_names, self._read = dict(splits), list(class_names), read
        self._own_description = description
        self._description = " ".join([description, *(f"{one}." for one in self.remarks)])
        self._config = tfds.core.BuilderConfig(name=config) if config else None
        super().__init__(config=self._config, data_dir=str(data_dir))

    def checked(self, *, leave_out_broken: bool = False) -> ImageFiles:
        """A builder of the same files, each of which has been decoded once, under a progress bar.

        Args:
            leave_out_broken: Leave out images that cannot be decoded, and say in the description
                how many and which came first; else they are refused.

        Raises:
            DataError: There are such images, or a split holds nothing else.
        """
        broken = self._broken()
        if not broken:
            return self
        if not leave_out_broken:
            (_, first), *others = broken.items()
            raise DataError(_replaced(first, [path for path, _ in others]))
        splits = {
            split: [file for file in files if file.path not in broken]
            for split, files in self._splits.items()
        }
        empty = [split for split, files in splits.items() if self._splits[split] and not files]
        if empty:
            raise DataError(
                f"archive: all {len(self._splits[empty[0]])} images of the split {empty[0]!r} are "
                f"broken, first {readable(self._splits[empty[0]][0].path)}. Replace the files."
            )
        num_files = sum(map(len, self._splits.values()))
        left_out = f"{len(broken):,} of {num_files:,} images are broken and left out"
        return ImageFiles(
            self._whole_name,
            splits,
            class_names=self._class_names,
            read=self._read,
            description=self._own_description,
            data_dir=self._root,
            convert=self._convert,
            remarks=(*self.remarks, f"{left_out}: {_listed(list(broken))}"),
        )

    def _broken(self) -> dict[str, str]:
        """Paths of images that cannot be decoded, and why."""
        files = [file for files in self._splits.values() for file in files]
        reasons: dict[str, str] = {}
        with (
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,
            progress.board().stage(
                f"check {self._whole_name}", total=len(files), unit="image", is_minor=True
            ) as stage,
        ):
            for start in range(0, len(files), _AT_ONCE):
                part = files[start : start + _AT_ONCE]
                # Read in this thread: those of a .tar share one position.
                found = threads.map(_reason, part, [self._read(file.path) for file in part])
                reasons |= {file.path: why for file, why in zip(part, found, strict=True) if why}
                stage.advance(len(part))
        return reasons

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

    def generators(self) -> dict[str, Iterable[Any]]:
        """The files of each split."""
        return {split: self._generate_examples(files) for split, files in self._splits.items()}

    def _generate_examples(
        self, files: Sequence[ImageFile]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, file in enumerate(files):
            data = self._read(file.path)
            identify(data, where=_where(file))
            if self._convert is not None:
                data = self._convert(data, file.path)
            example = {"id": file.id, "image": data, "label": file.label}
            if file.answers:
                example["answers"] = list(file.answers)
            yield index, example


def _reason(file: ImageFile, data: bytes) -> str:
    """Why an image cannot be decoded, with its path; empty where it can."""
    try:
        decode(data, where=_where(file), fix="")
    except DataError as error:
        return str(error).rstrip(" .")
    return ""


def _where(file: ImageFile) -> str:
    return f"archive: {readable(file.path)}"


def _listed(paths: Sequence[str]) -> str:
    more = f", and {len(paths) - _NUM_SHOWN:,} more" if len(paths) > _NUM_SHOWN else ""
    return ", ".join(map(readable, paths[:_NUM_SHOWN])) + more


def _replaced(first: str, others: Sequence[str]) -> str:
    """The message on broken images: the first's reason, the paths of the others."""
    if not others:
        return f"{first}. Replace the file, or leave it out by --leave_out_broken."
    return (
        f"{first}; so are {len(others):,} more: {_listed(others)}. Replace the files, or leave "
        "them out by --leave_out_broken."
    )


def check_class_names(name: str, class_names: Sequence[str]) -> None:
    """Refuses names that do not come back as they are from the file that TFDS keeps them in.

    It has a name a line, without the blanks at both ends.

    Args:
        name: Of the data set, for messages.
        class_names: In the order of the labels.

    Raises:
        DataError: One is empty, begins or ends with a blank, or holds the end of a line or another
            control character; or two differ by underscores for spaces alone.
    """
    known: dict[str, str] = {}
    for own in class_names:
        if not own or own != own.strip() or _CONTROLS.intersection(map(unicodedata.category, own)):
            raise DataError(
                f"{name}: got the class name {own!a}, expected text without blanks at its ends "
                "and without control characters. Rename the folder."
            )
        plain = unicodedata.normalize("NFC", own.replace("_", " "))
        if known.setdefault(plain, own) != own:
            raise DataError(
                f"{name}: got the class names {known[plain]!a} and {own!a}, which are one with "
                "spaces for underscores. Merge the folders, or rename one."
            )


def images_in(archive: Archive) -> list[str]:
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


def images_of(archive: Archive) -> list[str]:
    """The image files of an official archive, none of which may be missing.

    Raises:
        DataError: There is none, or one is a link that leads nowhere.
    """
    broken = [
        name for name in archive.left_out.get("broken link", ()) if name.lower().endswith(SUFFIXES)
    ]
    if broken:
        raise DataError(
            f"archive {archive.path}: got {len(broken)} broken links, first {broken[0]}, expected "
            "the images. Pass the official archive, or the whole folder."
        )
    return images_in(archive)
