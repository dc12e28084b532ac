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

SUBSETS = {"imagenet_a": _lines("a_wordnet_ids"), "imagenet_r": _lines("r_wordnet_ids")}
"""The 200 classes of ImageNet-A and of -R (their eval.py); TFDS declares all 1000 for both."""


@dataclasses.dataclass(kw_only=True)
class ImageNetSplit(Split):
    """A split of a data set that calls its classes by WordNet ids, in any order.

    Labels become indices into CLASS_NAMES by id. A class may be several of ImageNet, and is called
    by all their ids then, with spaces between (ObjectNet): its label is the first. As TFDS prepares
    them, these data sets qualify: imagenet2012 and imagenet2012_corrupted, imagenet_v2,
    imagenet_sketch, imagenet_a, imagenet_r, imagenette. Those of our own builders do too.
    """

    def label_map(
        self, own_names: Sequence[str], class_names: Sequence[str], description: str
    ) -> Int[np.ndarray, " k"]:
        """The place in WORDNET_IDS of every class that the data set has.

        Args:
            own_names: The data set's k classes, each of one or more WordNet ids, in its order.
            class_names: CLASS_NAMES; or `own_names`, which leaves the labels as they are.
            description: `name[split]`, for messages.

        Raises:
            ConfigError: The data set's own names are no WordNet ids, or not all of ImageNet-1k, or
                one is in two classes, or the class names are others.
        """
        _check_ids([one for name in own_names for one in name.split() or [name]], description)
        if tuple(class_names) == tuple(own_names):
            return np.arange(len(own_names), dtype=np.int32)
        _check_class_names(class_names, description)
        return np.array([_INDEX_OF[name.split()[0]] for name in own_names], np.int32)

    def groups(
        self, own_names: Sequence[str], class_names: Sequence[str]
    ) -> Int[np.ndarray, " c"] | None:
        """The class of the data set that each of CLASS_NAMES belongs to; None if it has all 1000.

        For ImageNet-A and -R, a place among the 200 of SUBSETS, however they were prepared.

        Args:
            own_names: As in `label_map`.
            class_names: As in `label_map`; None where they are `own_names`.
        """
        held = SUBSETS.get(self.name, tuple(own_names))
        if tuple(class_names) == tuple(own_names) or len(held) == len(WORDNET_IDS):
            return None
        groups = np.full(len(WORDNET_IDS), -1, np.int32)
        for group, name in enumerate(held):
            groups[[_INDEX_OF[wordnet_id] for wordnet_id in name.split()]] = group
        return groups


_INDEX_OF = {wordnet_id: index for index, wordnet_id in enumerate(WORDNET_IDS)}


def _check_ids(own_ids: Sequence[str], description: str) -> None:
    other = [name for name in own_ids if not re.fullmatch(r"n\d{8}", name)]
    if other:
        raise ConfigError(
            f"data set {description}: got the class {other[0]!r}, expected WordNet ids such as "
            f"{WORDNET_IDS[0]!r}. Name the split by Split, which goes by class names."
        )
    unknown = [name for name in own_ids if name not in _INDEX_OF]
    if unknown:
        raise ConfigError(
            f"data set {description}: {len(unknown)} of its {len(own_ids)} classes are not among "
            f"the {len(WORDNET_IDS)} of ImageNet-1k, first {unknown[0]!r}."
            f"{nearest(unknown[0], WORDNET_IDS)} Choose a data set of ImageNet-1k classes."
        )
    if len(set(own_ids)) < len(own_ids):
        twice = next(name for index, name in enumerate(own_ids) if name in own_ids[:index])
        raise ConfigError(
            f"data set {description}: got {twice} in two classes, expected distinct WordNet ids. "
            "Prepare the data set again."
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


def real() -> ImageNetSplit:
    """The validation images with all right labels of ImageNet-ReaL: `ImageSplit.answers`."""
    return ImageNetSplit(name="imagenet_real", split="validation")


def shifts() -> dict[str, Split]:
    """ImageNet-V2 (matched frequency), -R, -A, -Sketch and ObjectNet, by their metrics' names.

    The mean over these five is what robust fine-tuning of CLIP reports as OOD (CaRot, arXiv
    2311.01723, section 5.2). -R, -A and ObjectNet have 200, 200 and 113 classes, to which logits
    are restricted (`ImageSplit.groups`).
    """
    return {
        "imagenet_v2": ImageNetSplit(name="imagenet_v2/matched-frequency"),
        "imagenet_r": ImageNetSplit(name="imagenet_r"),
        "imagenet_a": ImageNetSplit(name="imagenet_a"),
        "imagenet_sketch": ImageNetSplit(name="imagenet_sketch"),
        "objectnet": ImageNetSplit(name="objectnet"),
    }


CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 of ImageNet-C's benchmark; extra.tar has four more."""


def corrupted(
    corruptions: Sequence[str] = CORRUPTIONS, severities: Sequence[int] = (1, 2, 3, 4, 5)
) -> dict[str, Split]:
    """ImageNet-C (Hendrycks & Dietterich, ICLR 2019), by names as `fog 3`."""
    return {
        f"{corruption.replace('_', ' ')} {severity}": ImageNetSplit(
            name=f"imagenet_c/{corruption}_{severity}"
        )
        for corruption in corruptions
        for severity in severities
    }
