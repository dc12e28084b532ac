"""CIFAR-10, its relatives, and what CLIP's protocol says of them."""

import dataclasses
import pathlib

from calib_jax.data import styles
from calib_jax.data.builders.corrupted import prepare_corrupted
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Source, Style

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

CIFAR100_CLASS_NAMES = (
    "apple",
    "aquarium fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak tree",
    "orange",
    "orchid",
    "otter",
    "palm tree",
    "pear",
    "pickup truck",
    "pine tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow tree",
    "wolf",
    "woman",
    "worm",
)

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a good photo of a {}.",
    "a photo of a small {}.",
    "a photo of a big {}.",
)
"""Of the 18 templates that CLIP (arXiv 2103.00020) has for CIFAR-10, those of plain photographs."""

STYLES: dict[str, tuple[Style | None, tuple[str, ...]]] = {
    "photo": (None, TEMPLATES),
    "grayscale": (styles.grayscale, ("a black and white photo of a {}.",)),
    "low contrast": (styles.low_contrast, ("a low contrast photo of a {}.",)),
    "blurred": (styles.blurred, ("a blurry photo of a {}.",)),
    "noisy": (styles.noisy, ("a noisy photo of a {}.",)),
    "pixelated": (styles.pixelated, ("a pixelated photo of a {}.",)),
    "posterized": (styles.posterized, ("a painting of a {}.",)),
    "sketch": (styles.sketch, ("a sketch of a {}.",)),
    "tinted": (styles.tinted, ("a negative of a {}.",)),
}
"""Picture styles for pre-training, with their captions."""

NUM_TRAIN = 45_000
"""The first so many training images train; the remaining 5,000 validate."""


def train() -> Split:
    """The training images."""
    return Split(name="cifar10", split=f"train[:{NUM_TRAIN}]")


def validation() -> Split:
    """The held-out training images."""
    return Split(name="cifar10", split=f"train[{NUM_TRAIN}:]")


def test() -> Split:
    """The 10,000 test images."""
    return Split(name="cifar10", split="test")


def styled(split: Split) -> tuple[Source, ...]:
    """One captioned source a style."""
    return tuple(
        Source(split=split, templates=templates, style=style)
        for style, templates in STYLES.values()
    )


@dataclasses.dataclass(kw_only=True)
class CorruptedTest:
    """Writes corrupted copies of the test images with TFDS's definitions, once.

    The strengths are those of ImageNet-C, which are harsher at 32 pixels than CIFAR-10-C's.

    Attributes:
        corruptions: Names (`data.builders.corrupted.CORRUPTIONS`).
        severities: From 1 (weak) to 5 (strong).
        max_examples: A class-balanced subset of the test images, the same for every corruption.
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...] = (1, 3, 5)
    max_examples: int = 10_000

    def __call__(self, data_dir: pathlib.Path, output_dir: pathlib.Path) -> None:
        """Reads `cifar10` from `data_dir` and writes `cifar10_corrupted` to `output_dir`."""
        prepare_corrupted(
            "cifar10",
            split="test",
            source_dir=data_dir,
            data_dir=output_dir,
            corruptions=self.corruptions,
            severities=self.severities,
            max_examples=self.max_examples,
        )

    def splits(self) -> dict[str, Split]:
        """The copies, by the name that the report gives them: `fog 3`."""
        return {
            f"{corruption.replace('_', ' ')} {severity}": Split(
                name=f"cifar10_corrupted/{corruption}_{severity}", split="test"
            )
            for corruption in self.corruptions
            for severity in self.severities
        }
