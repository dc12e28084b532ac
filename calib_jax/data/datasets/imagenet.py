"""ImageNet-1k, its shifts, and the zero-shot protocol of CLIP (arXiv 2103.00020) for them."""

import dataclasses
import importlib.resources
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.data.datasets.records import Split


def _lines(name: str) -> tuple[str, ...]:
    file = importlib.resources.files("calib_jax.data") / "assets" / f"imagenet_{name}.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


CLASS_NAMES = _lines("class_names")
"""What the protocol calls the 1000 classes; "missile" and "sunglasses" stand for two each."""

TEMPLATES = _lines("templates")
"""The protocol's 80 templates."""

WORDNET_IDS = _lines("wordnet_ids")
"""What tells the classes apart; in the same order."""


@dataclasses.dataclass(kw_only=True)
class ImageNetSplit(Split):
    """A split of a data set that calls its classes by WordNet ids, in any order.

    Labels become indices into CLASS_NAMES by id. As TFDS prepares them, these data sets qualify:
    imagenet2012 and imagenet2012_corrupted, imagenet_v2, imagenet_sketch, imagenet_a, imagenet_r,
    imagenette.
    """

    def label_map(
        self, own_names: Sequence[str], class_names: Sequence[str], description: str
    ) -> Int[np.ndarray, " k"]:
        """The place in WORDNET_IDS of every class that the data set has.

        Args:
            own_names: The data set's k WordNet ids, in its order.
            class_names: CLASS_NAMES; or `own_names`, which leaves the labels as they are.
            description: `name[split]`, for messages.

        Raises:
            ConfigError: The data set's own names are no WordNet ids, or not all of ImageNet-1k, or
                the class names are others.
        """
        _check_ids(own_names, description)
        if tuple(class_names) == tuple(own_names):
            return np.arange(len(own_names), dtype=np.int32)
        _check_class_names(class_names, description)
        index_of = {wordnet_id: index for index, wordnet_id in enumerate(WORDNET_IDS)}
        return np.array([index_of[wordnet_id] for wordnet_id in own_names], np.int32)


def _check_ids(own_names: Sequence[str], description: str) -> None:
    other = [name for name in own_names if not re.fullmatch(r"n\d{8}", name)]
    if other:
        raise ConfigError(
            f"data set {description}: got the class {other[0]!r}, expected WordNet ids such as "
            f"{WORDNET_IDS[0]!r}. Name the split by Split, which goes by class names."
        )
    unknown = [name for name in own_names if name not in WORDNET_IDS]
    if unknown:
        raise ConfigError(
            f"data set {description}: {len(unknown)} of its {len(own_names)} classes are not among "
            f"the {len(WORDNET_IDS)} of ImageNet-1k, first {unknown[0]!r}."
            f"{nearest(unknown[0], WORDNET_IDS)} Choose a data set of ImageNet-1k classes."
        )


def _check_class_names(class_names: Sequence[str], description: str) -> None:
    fix = "Set class_names=imagenet.CLASS_NAMES."
    if len(class_names) != len(CLASS_NAMES):
        raise ConfigError(
            f"data set {description}: got {len(class_names)} class names, expected the "
            f"{len(CLASS_NAMES)} of the protocol in their order. {fix}"
        )
    for index, (got, expected) in enumerate(zip(class_names, CLASS_NAMES, strict=True)):
        if got != expected:
            raise ConfigError(
                f"data set {description}: got class name {index} {got!r}, expected {expected!r}, "
                f"the protocol's for {WORDNET_IDS[index]}. {fix}"
            )


def validation(name: str = "imagenet2012") -> ImageNetSplit:
    """The validation images, on which the field reports: tune on held-out training images."""
    return ImageNetSplit(name=name, split="validation")


def shifts() -> dict[str, Split]:
    """ImageNet-V2 (matched frequency), -A, -R and -Sketch, by the names of their metrics.

    ImageNet-A and -R hold images of 200 classes each, yet TFDS declares all 1000 for them:
    `ImageSplit.absent` is empty, and a prediction may be any of the 1000. Published accuracies are
    over the logits of the 200 alone, and so higher: do not compare.
    """
    return {
        "imagenet_v2": ImageNetSplit(name="imagenet_v2/matched-frequency"),
        "imagenet_a": ImageNetSplit(name="imagenet_a"),
        "imagenet_r": ImageNetSplit(name="imagenet_r"),
        "imagenet_sketch": ImageNetSplit(name="imagenet_sketch"),
    }
