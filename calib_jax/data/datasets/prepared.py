"""Any prepared TFDS folder of labelled images, opened by name and read without TensorFlow."""

import dataclasses
import pathlib
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError
from jaxtyping import Int

from calib_jax.core.errors import ConfigError, DataError, nearest
from calib_jax.data.images import Frame, Framing, Pixels, Resize, decode

_CACHE_BYTES = 1 << 30  # of each split: for evaluation views, and for stored pixels


@dataclasses.dataclass(kw_only=True)
class Split:
    """Names one split of a prepared data set.

    Attributes:
        name: As TFDS names it: `cifar10`, `digits/rotated`.
        split: A split, or a slice of one in TFDS's notation: `train[:45000]`.
    """

    name: str
    split: str = "test"

    def label_map(
        self, own_names: Sequence[str], class_names: Sequence[str], description: str
    ) -> Int[np.ndarray, " k"]:
        """The index among the class names of every class that the data set has, by name.

        Subclasses tell classes apart by something else.

        Args:
            own_names: What the data set calls its k classes, in its order.
            class_names: What the labels shall be indices of; `own_names` where nobody said.
            description: `name[split]`, for messages.

        Raises:
            ConfigError: A class of the data set is not among the names, or a name stands there
                twice.
        """
        missing = [name for name in own_names if name not in class_names]
        if missing:
            raise ConfigError(
                f"data set {description}: {len(missing)} of its {len(own_names)} classes are not "
                f"among the {len(class_names)} class names, first {missing[0]!r}."
                f"{nearest(missing[0], class_names)} Correct class_names, or choose another data "
                "set."
            )
        twice = [name for index, name in enumerate(class_names) if name in class_names[:index]]
        if twice:  # a class would have two logits, and labels for the first alone
            raise ConfigError(
                f"data set {description}: got the class name {twice[0]!r} twice, expected distinct "
                "class names. Correct class_names."
            )
        return np.array([list(class_names).index(name) for name in own_names], np.int32)


@dataclasses.dataclass(frozen=True)
class Record:
    """One example as it lies in the file.

    Attributes:
        where: Data set and index, for messages.
        id: The data set's own; without one `test_000007`.
        encoded: A JPEG or PNG file's bytes.
        label: In the data set's own order of classes.
    """

    where: str
    id: str
    encoded: bytes
    label: int

    def pixels(self) -> Pixels:
        """The decoded image.

        Raises:
            DataError: The image cannot be decoded; names the data set and the index.
        """
        return decode(self.encoded, where=self.where)


class RecordSplit:
    """The records of a split, by index, images still encoded.

    Attributes:
        split: What was opened.
        description: `name[split]`, for messages.
        features: TFDS's, with an `image` and, as a ClassLabel, a `label`.
    """

    def __init__(self, split: Split, data_dirs: Sequence[pathlib.Path]):
        """Opens the folder.

        Args:
            split: What to open.
            data_dirs: Where prepared data sets lie; the first that holds it counts.

        Raises:
            ConfigError: The folder is missing or damaged, or lacks the split, or holds no labelled
                images.
        """
        self.split = split
        self.description = f"{split.name}[{split.split}]"
        builder = _open(split, data_dirs)
        self._source = _as_source(builder, split, self.description)
        self.features: dict[str, Any] = dict((builder.info.features or {}).items())
        if "image" not in self.features or not isinstance(
            self.features.get("label"), tfds.features.ClassLabel
        ):
            raise ConfigError(
                f"data set {self.description}: got features {sorted(self.features)}, expected "
                "'image' and, as a ClassLabel, 'label'. Choose a classification data set."
            )

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._source)

    def read(self, index: int) -> Record:
        """An example.

        Raises:
            DataError: The record cannot be read, or its label is out of range; names the data set
                and the index.
        """
        where = f"data set {self.description}, record {index}"
        try:
            row = self._source[index]
        # RuntimeError is ArrayRecord's: a checksum that does not match, a short or missing file.
        except (RuntimeError, DecodeError) as error:
            raise DataError(
                f"{where}: the record cannot be read: {_reason(error)}. Prepare the data set again."
            ) from error
        if row["image"] is None or row["label"] is None:
            raise DataError(f"{where}: it holds no image or no label. Prepare the data set again.")
        label, num_classes = int(row["label"]), len(self.features["label"].names)
        if not 0 <= label < num_classes:
            raise DataError(
                f"{where}: got label {label}, expected 0..{num_classes - 1}. "
                "Prepare the data set again."
            )
        name = f"{self.split.split}_{index:06d}"
        if isinstance(row.get("id"), bytes):
            name = row["id"].decode(errors="backslashreplace")
        return Record(where=where, id=name, encoded=row["image"], label=label)


class ImageSplit:
    """The images and labels of a split, by index; what was decoded stays in memory where it fits.

    Attributes:
        description: `name[split]`, for messages.
        label_names: What the labels stand for.
        absent: Those of them that are no class of the data set. A class that the data set declares
            is none of these, even if no image belongs to it.
    """

    def __init__(
        self,
        split: Split,
        data_dirs: Sequence[pathlib.Path],
        *,
        image_size: int,
        class_names: Sequence[str] = (),
        resize: Resize = "host",
    ):
        """Opens the folder.

        Args:
            split: What to open.
            data_dirs: Where prepared data sets lie; the first that holds it counts.
            image_size: Side of the square pixels that `image` returns; 0 leaves them as stored.
            class_names: Labels become indices into these (`Split.label_map`); empty: the data
                set's own (underscores in them are spaces).
            resize: Where frames get the image size.

        Raises:
            ConfigError: As `RecordSplit` and `Split.label_map`.
        """
        self._records = RecordSplit(split, data_dirs)
        self.description = self._records.description
        own_names = tuple(n.replace("_", " ") for n in self._records.features["label"].names)
        self.label_names = tuple(class_names) or own_names
        self._label_map = split.label_map(own_names, self.label_names, self.description)
        held = set(self._label_map.tolist())
        self.absent = tuple(n for index, n in enumerate(self.label_names) if index not in held)
        self._framing = Framing(image_size, resize)
        self._views = _new_cache(len(self), image_size)
        self._has_view = np.zeros(len(self), np.bool_)
        self._is_view = np.zeros(len(self), np.bool_)  # the stored pixels are the view
        self._stored: dict[int, Pixels] = {}
        self._room = _CACHE_BYTES
        self._lock = threading.Lock()
        self._labels = np.full(len(self), -1, np.int32)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._records)

    def image(self, index: int) -> Pixels:
        """The pixels of an example, resized and cropped to the image size; read-only.

        Raises:
            DataError: The record cannot be read or decoded; names the data set and the index.
        """
        if self._views is not None and self._has_view[index]:
            pixels = self._views[index]
        else:
            pixels = self._stored[index] if index in self._stored else self._decode(index)
            if self._framing.size and not self._is_view[index]:
                pixels = self._framing.view(pixels)
                self._keep_view(index, pixels)
        pixels.flags.writeable = False
        return pixels

    def frame(self, index: int) -> Frame:
        """An example as the device gets it: its pixels, or what it makes them of.

        Raises:
            DataError: As `image`.
        """
        if self._framing.resize == "device":
            return self._framing.whole(self.stored(index))
        return Frame(self.image(index))

    def stored(self, index: int) -> Pixels:
        """The pixels of an example as they are in the file; read-only.

        Raises:
            DataError: As `image`.
        """
        if self._is_view[index]:
            return self.image(index)
        if index in self._stored:
            return self._stored[index]
        pixels = self._decode(index)
        with self._lock:
            is_kept = self._is_view[index] or index in self._stored
            if not is_kept and pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._stored[index] = pixels
        return pixels

    def label(self, index: int) -> int:
        """The class index of an example."""
        if self._labels[index] < 0:
            self._decode(index)
        return int(self._labels[index])

    def labels(self) -> Int[np.ndarray, " n"]:
        """The class indices of all examples."""
        return np.array([self.label(index) for index in range(len(self))], np.int32)

    def _decode(self, index: int) -> Pixels:
        record = self._records.read(index)
        pixels = record.pixels()
        self._labels[index] = self._label_map[record.label]
        if pixels.shape[:2] == (self._framing.size, self._framing.size):
            self._keep_view(index, pixels)
            self._is_view[index] = self._has_view[index]
        return pixels

    def _keep_view(self, index: int, pixels: Pixels) -> None:
        if self._views is not None:
            self._views[index] = pixels
            # Last: other threads go by it.
            self._has_view[index] = True


def _open(split: Split, data_dirs: Sequence[pathlib.Path]) -> tfds.core.DatasetBuilder:
    for data_dir in data_dirs:
        folder = data_dir / split.name
        versions = [path.parent for path in folder.glob("*/features.json") if _is_prepared(path)]
        if versions:
            newest = max(versions, key=lambda path: tuple(map(int, path.name.split("."))))
            try:
                return tfds.builder_from_directory(str(newest))
            except (ParseError, ValueError, OSError) as error:
                raise ConfigError(
                    f"data set {split.name!r}: the folder {newest} is damaged: {_reason(error)}. "
                    "Prepare the data set again."
                ) from error
    known = sorted(
        str(path.parent.parent.relative_to(data_dir))
        for data_dir in data_dirs
        for path in data_dir.glob("**/features.json")
        if _is_prepared(path)
    )
    raise ConfigError(
        f"data set {split.name!r}: no prepared TFDS folder in {' or '.join(map(str, data_dirs))}."
        f"{nearest(split.name, known)} Found there: {', '.join(known[:12]) or 'nothing'}. "
        "Set --config.data_dir to the folder that holds it."
    )


def _is_prepared(features: pathlib.Path) -> bool:
    # An interrupted preparation leaves a folder such as 1.0.0.incompleteA1B2C3.
    return re.fullmatch(r"\d+\.\d+\.\d+", features.parent.name) is not None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")


# Not annotated as a Sequence: the run-time type checks of the tests would read a random record.
def _as_source(builder: tfds.core.DatasetBuilder, split: Split, description: str) -> Any:
    splits = sorted(builder.info.splits)
    if split.split.split("[")[0] not in splits:
        raise ConfigError(
            f"data set {description}: got split {split.split!r}, expected one of "
            f"{', '.join(splits)}.{nearest(split.split, splits)} Correct the split's name."
        )
    try:
        source = builder.as_data_source(
            split=split.split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        if len(source) == 0:
            raise ValueError("it is empty")
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"data set {description}: cannot be opened: {_reason(error)}. "
            "Prepare it as ArrayRecord, and write slices that are not empty as train[:90%]."
        ) from error
    return source


def _new_cache(num_examples: int, image_size: int) -> np.ndarray | None:
    shape = (num_examples, image_size, image_size, 3)
    if image_size == 0 or np.prod(shape, dtype=np.int64) > _CACHE_BYTES:
        return None
    return np.empty(shape, np.uint8)
