"""The images of a split as the models see them, decoded once where memory allows."""

import pathlib
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from calib_jax.core.errors import DataError
from calib_jax.data.datasets.records import RecordSplit, Split
from calib_jax.data.images import Frame, Framing, Pixels, Resize

_CACHE_BYTES = 1 << 30  # of each split: for evaluation views, and for stored pixels


class ImageSplit:
    """The images and labels of a split, by index; what was decoded stays in memory where it fits.

    Attributes:
        description: `name[split]`, for messages.
        label_names: What the labels stand for.
        groups: For every one of them, the class of the data set that it belongs to, or -1; None
            where predictions may be any of them (`Split.groups`). `evaluation.restrict` makes the
            logits of the data set's classes, `groups[labels]` their labels.
        absent: Those of them that are no class of the data set. A class that the data set declares
            is none of these, even if no image belongs to it.
        has_answers: Whether several classes may be right for an example (`answers`).
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
        self.groups = split.groups(own_names, self.label_names)
        held = set(self._label_map.tolist())
        if self.groups is not None:
            held = set(np.flatnonzero(self.groups >= 0).tolist())
        self.absent = tuple(n for index, n in enumerate(self.label_names) if index not in held)
        self._framing = Framing(image_size, resize)
        self._views = _new_cache(len(self), image_size)
        self._has_view = np.zeros(len(self), np.bool_)
        self._is_view = np.zeros(len(self), np.bool_)  # the stored pixels are the view
        self._stored: dict[int, Pixels] = {}
        self._room = _CACHE_BYTES
        self._lock = threading.Lock()
        self._labels = np.full(len(self), -1, np.int32)
        self.has_answers = "answers" in self._records.features
        self._answers: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._records)

    @property
    def fingerprint(self) -> int:
        """As `RecordSplit.fingerprint`."""
        return self._records.fingerprint

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

    def answers(
        self, indices: Int[np.ndarray, " m"] | None = None
    ) -> Bool[np.ndarray, "m c"] | None:
        """Which classes are right for the examples; None where the labels alone are.

        A prediction is right if it is any of them: `evaluation.restrict.relabel`.

        Args:
            indices: Of the examples; None: all.
        """
        if not self.has_answers:
            return None
        rows = range(len(self)) if indices is None else indices.tolist()
        right = np.zeros((len(rows), len(self.label_names)), np.bool_)
        for row, index in enumerate(rows):
            if index not in self._answers:
                self._decode(index)
            right[row, self._label_map[list(self._answers[index])]] = True
        return right

    def _decode(self, index: int) -> Pixels:
        record = self._records.read(index)
        pixels = record.pixels()
        label = self._label_map[record.label]
        if self.groups is not None and self.groups[label] < 0:
            raise DataError(
                f"{record.where}: got the class {self.label_names[label]!r}, which is none of the "
                "data set's. Prepare the data set again."
            )
        if record.answers:
            self._answers[index] = record.answers
        self._labels[index] = label  # last: other threads go by it
        if pixels.shape[:2] == (self._framing.size, self._framing.size):
            self._keep_view(index, pixels)
            self._is_view[index] = self._has_view[index]
        return pixels

    def _keep_view(self, index: int, pixels: Pixels) -> None:
        if self._views is not None:
            self._views[index] = pixels
            # Last: other threads go by it.
            self._has_view[index] = True


def _new_cache(num_examples: int, image_size: int) -> np.ndarray | None:
    shape = (num_examples, image_size, image_size, 3)
    if image_size == 0 or np.prod(shape, dtype=np.int64) > _CACHE_BYTES:
        return None
    return np.empty(shape, np.uint8)
