"""Corrupted copies of a prepared classification data set, with the definitions TFDS ships.

The corruptions are those of ImageNet-C and CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019) as coded
in `tensorflow_datasets.image_classification.corruptions`: the ones that need neither OpenCV,
ImageMagick nor a download. Strengths are ImageNet-C's, so on 32 x 32 images they are harsher
than those of the published CIFAR-10-C files.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import skimage.util
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tensorflow_datasets.image_classification import corruptions as tfds_corruptions

from calib_jax.core import errors, progress
from calib_jax.data.builders import record
from calib_jax.data.datasets.records import Record, RecordSplit, Split

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)

_IMPULSE_FRACTION = (0.03, 0.06, 0.09, 0.17, 0.27)  # of the pixels; TFDS's impulse_noise


def prepare_corrupted(
    source: str,
    *,
    split: str,
    source_dir: pathlib.Path,
    data_dir: pathlib.Path,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = (1, 3, 5),
    max_examples: int | None = None,
) -> list[str]:
    """Names of the corrupted data sets, such as `cifar10_corrupted/gaussian_noise_3`.

    Each is a folder of its own under `data_dir`, holds one split with the name of the source's and
    keeps ids, labels, class names and the order. One that is there already is left alone.

    Args:
        source: name of a data set under `source_dir`; `digits/clean` becomes
            `digits_clean_corrupted`.
        split: the split to corrupt.
        source_dir: folder with prepared data sets.
        data_dir: folder to write to.
        corruptions: a selection of `CORRUPTIONS`.
        severities: a selection of 1 (weak) to 5 (strong).
        max_examples: size of a subset, the same for every corruption. It is balanced over the
            classes and chosen by a hash of the ids: a smaller subset is part of every larger one.

    Raises:
        ConfigError: unknown corruption or severity, missing or damaged source, missing split, or
            a folder that holds another number of examples than asked for.
        DataError: a record of the source cannot be read or decoded; no half copy is left.
    """
    _check_selection(corruptions, severities, max_examples)
    if "[" in split:
        raise errors.ConfigError(
            f"split: got {split!r}, expected a whole split. Use max_examples for a subset."
        )
    records = RecordSplit(Split(name=source, split=split), [source_dir])
    num_examples = min(len(records), max_examples or len(records))
    builders = [
        CorruptedCopy(records, f"{corruption}_{severity}", data_dir=data_dir)
        for corruption in corruptions
        for severity in severities
    ]
    for builder in builders:
        if builder.is_written():
            _check_written(builder, split, num_examples)
    missing = [builder for builder in builders if not builder.is_written()]
    if missing:
        _write_all(missing, _read(records, num_examples))
    return [f"{builder.name}/{builder.builder_config.name}" for builder in builders]


def _write_all(builders: Sequence[CorruptedCopy], examples: Sequence[Record]) -> None:
    board = progress.board()
    with board.stage("corrupt", total=len(builders), unit="data set", is_minor=True) as stage:
        for builder in builders:
            builder.examples = examples
            builder.write()
            stage.advance()


def corrupt(
    image: UInt8[np.ndarray, "h w 3"], corruption: str, severity: int, *, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The image under a corruption of `CORRUPTIONS` at severity 1 to 5; the same for one seed.

    Not for threads: it seeds NumPy's global generator and puts its state back.
    """
    if corruption == "impulse_noise":
        return _impulse_noise(image, severity, seed)
    apply: Callable[[np.ndarray, int], np.ndarray] = getattr(tfds_corruptions, corruption)
    # TFDS's functions draw from NumPy's global generator and take no other: seed that one, and
    # give its state back, so that preparing data changes no other random number of the process.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        return apply(image, severity)
    finally:
        np.random.set_state(state)  # noqa: NPY002


@dataclasses.dataclass(kw_only=True)
class _CorruptionConfig(tfds.core.BuilderConfig):
    corruption: str
    severity: int


class CorruptedCopy(record.RecordBuilder):
    """One corruption at one severity; `examples` is set before it writes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        _CorruptionConfig(
            name=f"{corruption}_{severity}",
            description=f"{corruption} of severity {severity}.",
            corruption=corruption,
            severity=severity,
        )
        for corruption in CORRUPTIONS
        for severity in SEVERITIES
    ]
    examples: Sequence[Record] = ()

    def __init__(self, source: RecordSplit, config: str, *, data_dir: pathlib.Path) -> None:
        """A builder named after its source."""
        self.name = f"{source.split.name.replace('/', '_')}_corrupted"
        self._split = source.split.split
        self._source_features = source.features
        super().__init__(config=config, data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(
                    shape=self._source_features["image"].shape, encoding_format="png"
                ),
                "label": tfds.features.ClassLabel(names=self._source_features["label"].names),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=features,
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the order of the source
        )

    def generators(self) -> dict[str, Iterable[Any]]:
        """The one split."""
        return {self._split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        corruption, severity = self.builder_config.corruption, self.builder_config.severity
        for index, example in enumerate(self.examples):
            image = corrupt(
                example.pixels(),
                corruption,
                severity,
                seed=record.seed_of(corruption, severity, example.id),
            )
            encoded = record.png_bytes(image)
            yield index, {"id": example.id, "image": encoded, "label": example.label}


def _impulse_noise(
    image: UInt8[np.ndarray, "h w 3"], severity: int, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """TFDS's impulse noise; its own function cannot be seeded: scikit-image makes a fresh rng."""
    salted = skimage.util.random_noise(
        image / 255.0,
        mode="s&p",
        amount=_IMPULSE_FRACTION[severity - 1],
        rng=np.random.default_rng(seed),
    )
    return tfds_corruptions.around_and_astype(np.clip(salted, 0.0, 1.0) * 255.0)


def _check_selection(
    corruptions: Sequence[str], severities: Sequence[int], max_examples: int | None
) -> None:
    for corruption in corruptions:
        if corruption not in CORRUPTIONS:
            hint = errors.nearest(corruption, CORRUPTIONS)
            raise errors.ConfigError(
                f"corruption: got {corruption!r}, expected one of {', '.join(CORRUPTIONS)}.{hint}"
            )
    for severity in severities:
        if severity not in SEVERITIES:
            closest = min(SEVERITIES, key=lambda known: abs(known - severity))
            raise errors.ConfigError(
                f"severity: got {severity}, expected 1 to 5. Did you mean {closest}?"
            )
    if max_examples is not None and max_examples < 1:
        raise errors.ConfigError(
            f"max_examples: got {max_examples}, expected at least 1. Use None for all of them."
        )


def _check_written(builder: CorruptedCopy, split: str, num_examples: int) -> None:
    splits = builder.info.splits
    found = splits[split].num_examples if split in splits else 0
    if found != num_examples:
        raise errors.ConfigError(
            f"{builder.data_dir}: got {found} examples in split {split!r}, expected "
            f"{num_examples}. Delete the folder or choose another data_dir."
        )


def _read(records: RecordSplit, num_examples: int) -> list[Record]:
    """The examples of the split, still encoded: balanced over classes, in the source's order."""
    examples = [records.read(index) for index in range(len(records))]
    if num_examples == len(examples):
        return examples
    hashed = sorted(examples, key=lambda example: record.seed_of("subset", example.id))
    taken: dict[int, int] = {}  # how many of each class come before, in the order of the hash
    rank: dict[str, int] = {}
    for example in hashed:
        rank[example.id] = taken[example.label] = taken.get(example.label, -1) + 1
    kept = {e.id for e in sorted(hashed, key=lambda example: rank[example.id])[:num_examples]}
    return [example for example in examples if example.id in kept]
