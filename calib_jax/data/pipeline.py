"""Grain pipelines: endless shuffled training batches, and a split in order for evaluation."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Int

from calib_jax.core.errors import ConfigError
from calib_jax.core.numerics import spread
from calib_jax.core.types import Batch
from calib_jax.data.captions import CaptionTable, check_templates
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.images import NUM_TRIES, Box, Framing, Pixels, Resize, random_boxes

Style = Callable[[Pixels, np.random.Generator], Pixels]

# Threads beat processes here: Pillow and ArrayRecord release the interpreter's lock.
_THREADS = min(os.cpu_count() or 1, 16)
_PREFETCH_BATCHES = 8


@dataclasses.dataclass(kw_only=True)
class Source:
    """Captioned training images.

    Attributes:
        split: The images.
        templates: One is drawn at random for each image and epoch; none: the images have no
            captions, for methods that look at labels alone.
        style: A picture transformation of the stored pixels, applied before the augmentation.
        repeats: How often each image comes in an epoch, for a small source among large ones.
    """

    split: Split
    templates: tuple[str, ...]
    style: Style | None = None
    repeats: int = 1

    def validate(self, *, field: str) -> None:
        """Raises a ConfigError for no repeat, or a wrong template; `field` names the source."""
        self.split.validate(f"{field}.split")
        check_templates(self.templates, field=f"{field}.templates")
        if self.repeats < 1:
            raise ConfigError(
                f"{field}.repeats: got {self.repeats}, expected at least 1. Correct it."
            )


@dataclasses.dataclass(kw_only=True)
class Augmentation:
    """Random views of the training images.

    Attributes:
        crop_scale: Smallest and largest share of the stored image's area that a random resized
            crop keeps; (1, 1) takes CLIP's evaluation view.
        flip: Mirror half of the images.
    """

    crop_scale: tuple[float, float] = (0.9, 1.0)
    flip: bool = False

    def validate(self, *, field: str) -> None:
        """Raises a ConfigError for a share outside 0..1; `field` names the augmentation."""
        low, high = self.crop_scale
        if not 0.0 < low <= high <= 1.0:
            raise ConfigError(
                f"{field}.crop_scale: got {self.crop_scale}, expected 0 < low <= high <= 1. "
                "Set it to (0.9, 1.0) for CLIP's."
            )


class CaptionedImages:
    """The concatenation of sources, as a random-access source of `(source, image, label)`.

    Attributes:
        sources: In their order.
        splits: The opened split of each.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        splits: Sequence[ImageSplit],
        captions: CaptionTable,
    ):
        """Takes the opened split of each source, with labels in the caption table's order."""
        self.sources = sources
        self.splits = splits
        self._columns = [captions.template_indices(source.templates) for source in sources]
        sizes = [source.repeats * len(s) for source, s in zip(sources, splits, strict=True)]
        self._ends = np.cumsum(sizes)
        self._captions = captions

    def __len__(self) -> int:
        """The number of images of all sources, repeats included."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[int, Pixels, int]:
        """The source's number, the stored pixels, the class in the caption table's order."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        split = self.splits[number]
        local = (index - (int(self._ends[number - 1]) if number else 0)) % len(split)
        return number, split.stored(local), split.label(local)

    def style(self, number: int) -> Style | None:
        """The style of a source."""
        return self.sources[number].style

    def caption(self, number: int, label: int, draw: float) -> int:
        """The row of the caption at `draw` (in [0, 1)) of those that the source allows; 0: none."""
        columns = self._columns[number]
        if not columns:
            return 0
        return self._captions.row(label, columns[int(draw * len(columns))])


def training_batches(
    images: CaptionedImages,
    *,
    batch_size: int,
    image_size: int,
    augmentation: Augmentation,
    seed: int,
    resize: Resize = "host",
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Endless batches of this process, reshuffled every epoch.

    The global batch k holds the same examples, captions and crops for any number
    of processes; the state of the iterator is one number.

    Args:
        images: All training images.
        batch_size: Of all processes together.
        image_size: Side of the model's images.
        augmentation: Random views.
        seed: Of the order, the captions and the views.
        resize: Where the views get the image size.
        process_index: Which share of each batch is this process's.
        process_count: The number of shares.

    Raises:
        ConfigError: There are fewer images than one batch needs.
    """
    if len(images) < batch_size:
        raise ConfigError(
            f"training.batch_size: got {batch_size}, expected at most the {len(images)} training "
            "images. Lower it."
        )

    share = slice(process_index, None, process_count)
    dataset = (
        grain.MapDataset.range(len(images))
        .seed(seed)
        .shuffle()
        .repeat()
        .batch(batch_size, drop_remainder=True)
        .random_map(_loader(images, Framing(image_size, resize), augmentation, share))
    )
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_PREFETCH_BATCHES)
    return iter(dataset.to_iter_dataset(options))


def _loader(
    images: CaptionedImages, framing: Framing, augmentation: Augmentation, share: slice
) -> Callable[[Int[np.ndarray, " b"], np.random.Generator], Batch]:
    """What makes the own share of a batch of its numbers in `images`.

    Each example's numbers are the same whatever the share. They are drawn for a batch at once: a
    generator an example would cost more time than a small image.
    """
    is_whole = tuple(augmentation.crop_scale) == (1.0, 1.0)

    def load(numbers: Int[np.ndarray, " b"], rng: np.random.Generator) -> Batch:
        windows = rng.random((len(numbers), NUM_TRIES, 4))[share]
        flips, captions = rng.random((2, len(numbers)))[:, share]
        seeds = rng.integers(2**63, size=len(numbers))[share]
        elements = [images[number] for number in numbers[share].tolist()]
        pixels = [
            stored if style is None else style(stored, np.random.default_rng(seed))
            for (number, stored, _), seed in zip(elements, seeds, strict=True)
            for style in [images.style(number)]
        ]
        boxes: Sequence[Box | None] = [None] * len(pixels)
        if not is_whole:
            sizes = np.array([each.shape[:2] for each in pixels])
            boxes = random_boxes(sizes, windows, scale=augmentation.crop_scale)
        frames = [framing.window(each, box) for each, box in zip(pixels, boxes, strict=True)]
        if augmentation.flip:
            frames = [
                frame.mirrored() if flip < 0.5 else frame
                for frame, flip in zip(frames, flips, strict=True)
            ]
        taps = [frame.taps for frame in frames if frame.taps is not None]
        return Batch(
            image=np.stack([frame.pixels for frame in frames]),
            label=np.array([label for _, _, label in elements], np.int32),
            caption=np.array(
                [
                    images.caption(number, label, draw)
                    for (number, _, label), draw in zip(elements, captions, strict=True)
                ],
                np.int32,
            ),
            mask=np.ones(len(frames), np.bool_),
            taps=np.stack(taps) if taps else None,
        )

    return load


def evaluation_batches(
    images: ImageSplit,
    *,
    batch_size: int,
    limit: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """The split in order, once; the last batch is padded with zeros under a False mask.

    Args:
        images: The split.
        limit: Take only so many examples, spread evenly.
        batch_size: Of all processes together; process p gets the p-th share of rows of each batch.
        process_index: Which share is this process's.
        process_count: The number of shares.
    """
    return _batches_in_order(
        images,
        spread(len(images), limit),
        batch_size=batch_size,
        process_index=process_index,
        process_count=process_count,
    )


def cycled_batches(
    images: ImageSplit,
    count: int,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """So many full batches of the split in order, which begins again wherever it ends."""
    return _batches_in_order(
        images,
        np.arange(count * batch_size) % len(images),
        batch_size=batch_size,
        process_index=process_index,
        process_count=process_count,
    )


def _batches_in_order(
    images: ImageSplit,
    indices: Int[np.ndarray, " n"],
    *,
    batch_size: int,
    process_index: int,
    process_count: int,
) -> Iterator[Batch]:
    local_size = batch_size // process_count
    num_batches = -(-len(indices) // batch_size)

    def load(number: int) -> Batch:
        start = number * batch_size + process_index * local_size
        rows = [int(index) for index in indices[start : start + local_size]]
        frames = [images.frame(row) for row in rows]
        like = frames[0] if frames else images.frame(0)
        taps = [frame.taps for frame in frames if frame.taps is not None]
        label = np.zeros(local_size, np.int32)
        label[: len(rows)] = [images.label(row) for row in rows]
        return Batch(
            image=_padded([frame.pixels for frame in frames], like.pixels, local_size),
            label=label,
            caption=np.zeros(local_size, np.int32),
            mask=np.arange(local_size) < len(rows),
            taps=None if like.taps is None else _padded(taps, like.taps, local_size),
        )

    dataset = grain.MapDataset.range(num_batches).map(load)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_PREFETCH_BATCHES)
    return iter(dataset.to_iter_dataset(options))


def _padded(arrays: Sequence[np.ndarray], like: np.ndarray, length: int) -> np.ndarray:
    """The arrays in one, then zeros."""
    padded = np.zeros((length, *like.shape), like.dtype)
    padded[: len(arrays)] = arrays if arrays else 0
    return padded
