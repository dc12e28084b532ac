"""Handwritten digits of scikit-learn in ten styles, with near and far out-of-distribution sets.

The 1,797 scans of `sklearn.datasets.load_digits` (Alpaydin & Kaynak, UCI 1998) come with the
package, so nothing is downloaded. Digits zero to seven are the classes; eight and nine are
`near_ood`; patches of scikit-learn's two sample photographs are `far_ood`.

A scan is in the same split in every domain. The photographs are cut into disjoint vertical
strips: no scan and no pixel of a background is shared between splits or with `far_ood`.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8
from PIL import Image
from sklearn import datasets

from calib_jax.core import progress
from calib_jax.data import styles
from calib_jax.data.builders import record

NAME = "digits"
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven")
NEAR_OOD_NAMES = ("eight", "nine")
FAR_OOD_NAMES = ("china", "flower")
SPLITS = ("train", "validation", "test")

_STYLES: dict[str, styles.Style] = {
    "rotated": styles.rotated,
    "tinted": styles.tinted,
    "sketch": styles.sketch,
    "blurred": styles.blurred,
    "noisy": styles.noisy,
    "occluded": styles.occluded,
    "thick": styles.thickened,
    "thin": styles.thinned,
}
DOMAINS = (*_STYLES, "photo")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "clean": ("a scan of the digit {}.", "a photo of the number {}.", "the handwritten digit {}."),
    "rotated": ("a rotated digit {}.", "a tilted scan of the number {}.", "the digit {}, turned."),
    "tinted": (
        "a dark digit {} on coloured paper.",
        "an inverted scan of the number {}.",
        "a tinted photo of the digit {}.",
    ),
    "sketch": ("a sketch of the digit {}.", "the outline of a {}.", "a drawing of the number {}."),
    "blurred": ("a blurry photo of the digit {}.", "a blurred {}.", "the number {}, out of focus."),
    "noisy": ("a noisy scan of the digit {}.", "a grainy {}.", "a bad photo of the number {}."),
    "occluded": (
        "a partly hidden digit {}.",
        "the number {} behind a patch.",
        "a covered scan of the digit {}.",
    ),
    "thick": ("a digit {} in thick strokes.", "a bold {}.", "the number {} in marker pen."),
    "thin": ("a digit {} in thin strokes.", "a thin {}.", "the number {} in fine pen."),
    "photo": (
        "a photo of the digit {} on a picture.",
        "the number {} painted on a photograph.",
        "a {} over a photo background.",
    ),
}

_SIDE = 32
_MARGIN = 4  # room for turned and thickened strokes: the scans touch their border
_FAR_OOD_PER_PHOTO = 200
# Columns of the 427 x 640 photographs. The subjects of both are in the middle, for `far_ood`.
STRIPS: dict[str, tuple[tuple[int, int], ...]] = {
    "train": ((0, 96), (400, 512)),
    "validation": ((512, 640),),
    "test": ((96, 200),),
    "far_ood": ((200, 400),),
}
_BACKGROUND_SIDES = (32, 48, 64, 96)
_FAR_OOD_SIDES = (32, 48, 64, 96, 128)


def write_domains(data_dir: pathlib.Path) -> None:
    """Writes every domain to `data_dir/digits`, where it is missing."""
    builders = [Digits(config=config.name, data_dir=str(data_dir)) for config in _CONFIGS]
    missing = [builder for builder in builders if not builder.is_written()]
    if not missing:
        return
    board = progress.board()
    with board.stage("prepare digits", total=len(missing), unit="data set", is_minor=True) as stage:
        for builder in missing:
            builder.write()
            stage.advance()


@dataclasses.dataclass
class DomainConfig(tfds.core.BuilderConfig):
    """A domain: its name and the names of its classes."""

    class_names: tuple[str, ...] = CLASS_NAMES


_CONFIGS = (
    DomainConfig(name="clean", description="The scans, enlarged to 32 x 32."),
    *(DomainConfig(name=name, description=f"The scans, {name}.") for name in DOMAINS),
    DomainConfig(name="near_ood", description="Digits eight and nine.", class_names=NEAR_OOD_NAMES),
    DomainConfig(name="far_ood", description="Photo patches.", class_names=FAR_OOD_NAMES),
)


class Digits(record.RecordBuilder):
    """Digits zero to seven in ten styles, 32 x 32 x 3; near- and far-OOD images."""

    name = NAME
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = list(_CONFIGS)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(_SIDE, _SIDE, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=self.builder_config.class_names),
            }
        )
        return self.dataset_info_from_configs(
            features=features, supervised_keys=("image", "label"), description=__doc__
        )

    def generators(self) -> dict[str, Iterable[Any]]:
        """The domain's splits."""
        domain = self.builder_config.name
        if domain in ("near_ood", "far_ood"):
            return {"test": self._generate_examples(domain, "test")}
        return {split: self._generate_examples(domain, split) for split in SPLITS}

    def _generate_examples(self, domain: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = _far_ood() if domain == "far_ood" else _scans(domain, split)
        for name, image, label in rows:
            yield name, {"id": name, "image": record.png_bytes(image), "label": label}


def split_of(index: int) -> str:
    """The split of a scan, by the SHA-256 of its index: 60 % train, 20 % validation, 20 % test."""
    position = record.seed_of(NAME, "split", index) / 2**64
    return SPLITS[int(position >= 0.6) + int(position >= 0.8)]


def enlarged(scan: Float[np.ndarray, "8 8"]) -> UInt8[np.ndarray, "32 32 3"]:
    """A scan with values 0 to 16, bicubically enlarged to 24 x 24 inside a black margin."""
    side = _SIDE - 2 * _MARGIN
    picture = Image.fromarray((scan * (255.0 / 16.0)).astype(np.float32))
    smooth = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
    pixels = np.clip(np.rint(np.pad(smooth, _MARGIN)), 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1)


def _scans(domain: str, split: str) -> Iterator[tuple[str, np.ndarray, int]]:
    is_ood = domain == "near_ood"
    images, digits = _enlarged_scans()
    for index, digit in enumerate(digits):
        if (digit >= len(CLASS_NAMES)) != is_ood or (not is_ood and split_of(index) != split):
            continue
        image = _in_domain(images[index], domain, split, index)
        yield f"scan_{index:04d}", image, int(digit) - is_ood * len(CLASS_NAMES)


def _in_domain(image: np.ndarray, domain: str, split: str, index: int) -> np.ndarray:
    rng = record.rng_of(NAME, domain, index, 0)
    if domain == "photo":
        photo = FAR_OOD_NAMES[int(rng.integers(len(FAR_OOD_NAMES)))]
        return styles.on_background(image, _patch(photo, split, _BACKGROUND_SIDES, rng), rng)
    return _STYLES[domain](image, rng) if domain in _STYLES else image


def _far_ood() -> Iterator[tuple[str, np.ndarray, int]]:
    for label, photo in enumerate(FAR_OOD_NAMES):
        for index in range(_FAR_OOD_PER_PHOTO):
            rng = record.rng_of(NAME, "far_ood", photo, index, 0)
            yield f"{photo}_{index:03d}", _patch(photo, "far_ood", _FAR_OOD_SIDES, rng), label


def _patch(
    photo: str, strip: str, sides: tuple[int, ...], rng: np.random.Generator
) -> UInt8[np.ndarray, "32 32 3"]:
    """A square of the strip of the photograph with one of the sides, resized to 32 x 32."""
    first, last = STRIPS[strip][int(rng.integers(len(STRIPS[strip])))]
    pixels = _photograph(photo)[:, first:last]
    side = int(rng.choice(sides))
    top = int(rng.integers(pixels.shape[0] - side, endpoint=True))
    left = int(rng.integers(pixels.shape[1] - side, endpoint=True))
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((_SIDE, _SIDE), Image.Resampling.BOX))


@functools.cache
def _enlarged_scans() -> tuple[UInt8[np.ndarray, "n 32 32 3"], Int[np.ndarray, " n"]]:
    digits = datasets.load_digits()
    return np.stack([enlarged(scan) for scan in digits.images]), digits.target


@functools.cache
def _photograph(name: str) -> UInt8[np.ndarray, "h w 3"]:
    return datasets.load_sample_image(f"{name}.jpg")
