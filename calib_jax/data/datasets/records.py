"""Any prepared TFDS folder of labelled images, opened by name and read without TensorFlow."""

import dataclasses
import hashlib
import pathlib
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError
from jaxtyping import Int

from calib_jax.core.errors import ConfigError, DataError, nearest
from calib_jax.core.paths import expanded
from calib_jax.data.images import Pixels, decode
from calib_jax.data.official import command

_END = 1 << 16  # bytes at either end of a file that tell it from another of its size


@dataclasses.dataclass(kw_only=True)
class Split:
    """Names one split of a prepared data set.

    Attributes:
        name: As TFDS names it: `cifar10`, `digits/rotated`.
        split: A split, or a slice of one in TFDS's notation: `train[:45000]`.
        share: Only the examples whose id falls, hashed to 0..1 (`id_position`), in [low, high):
            parts that stay apart however a data set is stored. Its ids are all read on opening.
        without: Names of classes whose examples are left out, as the data set has them, or with
            spaces for underscores: an OOD set must hold none of the known classes.
    """

    name: str
    split: str = "test"
    share: tuple[float, float] = (0.0, 1.0)
    without: tuple[str, ...] = ()

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

    def groups(
        self, own_names: Sequence[str], class_names: Sequence[str]
    ) -> Int[np.ndarray, " c"] | None:
        """The class of the data set that each class name belongs to, -1 for none; None: no matter.

        Not None, logits are restricted to the data set's classes before anything is computed from
        them (`evaluation.restrict`). Here None: a prediction may be any of the class names.

        Args:
            own_names: As in `label_map`.
            class_names: As in `label_map`.
        """
        del own_names, class_names
        return None


@dataclasses.dataclass(kw_only=True)
class NumberedSplit(Split):
    """A split of a data set that numbers its classes, from 0 or 1: places in the class names."""

    def label_map(
        self, own_names: Sequence[str], class_names: Sequence[str], description: str
    ) -> Int[np.ndarray, " k"]:
        """The number of each class, less the smallest; 7 may be called 00007.

        Args:
            own_names: The numbers, in the data set's order.
            class_names: What the numbers stand for.
            description: `name[split]`, for messages.

        Raises:
            ConfigError: The classes have names, lack a number, or are not k.
        """
        named = [name for name in own_names if re.fullmatch(r"[0-9]{1,9}", name) is None]
        if named:
            raise ConfigError(
                f"data set {description}: got the class {named[0]!r}, expected numbers. "
                "Name the split by Split, which goes by class names."
            )
        numbers, num_classes = [int(name) for name in own_names], len(own_names)
        first = min([1, *numbers])
        absent = set(range(first, first + num_classes)) - set(numbers)
        if absent:
            raise ConfigError(
                f"data set {description}: got no class {min(absent)}, expected 0 to "
                f"{num_classes - 1} or 1 to {num_classes}. Rename its folders."
            )
        if num_classes != len(class_names):
            raise ConfigError(
                f"data set {description}: got {len(class_names)} class names, expected "
                f"{num_classes}. Correct class_names."
            )
        return np.array(numbers, np.int32) - first


def id_position(name: str) -> float:
    """Where an example's id falls in [0, 1), by the first eight bytes of its BLAKE2b hash."""
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # all 64 bits would round up to 1


@dataclasses.dataclass(frozen=True)
class Record:
    """One example as it lies in the file.

    Attributes:
        where: Data set and index, for messages.
        id: The data set's own; without one `test_000007`.
        encoded: A JPEG or PNG file's bytes.
        label: In the data set's own order of classes.
        answers: All right labels, where the data set has several an image; else empty.
        folder: Where the data set lies.
    """

    where: str
    id: str
    encoded: bytes
    label: int
    answers: tuple[int, ...]
    folder: pathlib.Path

    def pixels(self) -> Pixels:
        """The decoded image.

        Raises:
            DataError: The image cannot be decoded; names the data set, the index and the id.
        """
        # The record's checksum has matched: the file was broken when the data set was prepared.
        return decode(
            self.encoded,
            where=f"{self.where} ({self.id})",
            fix=f"Replace its file, delete {self.folder} and prepare the data set again. "
            "Images of an archive are left out by --leave_out_broken.",
        )


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
        self._folder = pathlib.Path(builder.data_dir)
        self._source = _as_source(builder, split, self.description)
        self.features: dict[str, Any] = dict((builder.info.features or {}).items())
        if "image" not in self.features or not isinstance(
            self.features.get("label"), tfds.features.ClassLabel
        ):
            raise ConfigError(
                f"data set {self.description}: got features {sorted(self.features)}, expected "
                "'image' and, as a ClassLabel, 'label'. Choose a classification data set."
            )
        self._rows: Sequence[int] = range(len(self._source))
        self._rows = self._chosen(split)

    def _chosen(self, split: Split) -> Sequence[int]:
        """The rows of the split that its share and its classes leave."""
        low, high = split.share
        if not 0.0 <= low < high <= 1.0:
            raise ConfigError(
                f"data set {self.description}: got share {tuple(split.share)}, expected "
                "0 <= low < high <= 1. Correct it."
            )
        names = [name.replace("_", " ") for name in self.features["label"].names]
        left_out = [name.replace("_", " ") for name in split.without]
        unknown = [name for name in left_out if name not in names]
        if unknown:
            raise ConfigError(
                f"data set {self.description}: without names {unknown[0]!r}, which is no class of "
                f"it.{nearest(unknown[0], names)} Correct it."
            )
        if (low, high) == (0.0, 1.0) and not split.without:
            return self._rows
        if (low, high) != (0.0, 1.0) and "id" not in self.features:
            raise ConfigError(
                f"data set {self.description}: got share {tuple(split.share)}, but its examples "
                "have no id. Slice it as train[:90%] instead."
            )
        if (low, high) != (0.0, 1.0):
            self.description += f", ids in [{low:g}, {high:g})"
        if split.without:
            self.description += f", without {', '.join(split.without)}"
        records = [(row, self.read(row)) for row in self._rows]
        chosen = [
            row
            for row, record in records
            if low <= id_position(record.id) < high and names[record.label] not in left_out
        ]
        if not chosen:
            raise ConfigError(f"data set {self.description}: it is empty. Choose more of it.")
        return chosen

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._rows)

    def fingerprint(self) -> int:
        """A CRC-32 that tells another content of the folder: of names, sizes, and ends of files."""
        bases = {part.strip().split("[")[0] for part in self.split.split.split("+")}
        return _fingerprint(self._folder, bases)

    def read(self, index: int) -> Record:
        """An example.

        Raises:
            DataError: The record cannot be read, or its label is out of range; names the data set
                and the index.
        """
        index = self._rows[index]
        where = f"data set {self.description}, record {index}"
        again = f"Delete {self._folder} and prepare the data set again."
        try:
            row = self._source[index]
        # RuntimeError is ArrayRecord's: a checksum that does not match, a short or missing file.
        except (RuntimeError, DecodeError) as error:
            raise DataError(
                f"{where}: the record cannot be read: {_reason(error)}. {again}"
            ) from error
        if row["image"] is None or row["label"] is None:
            raise DataError(f"{where}: it holds no image or no label. {again}")
        label, num_classes = int(row["label"]), len(self.features["label"].names)
        if not 0 <= label < num_classes:
            raise DataError(f"{where}: got label {label}, expected 0..{num_classes - 1}. {again}")
        name = f"{self.split.split}_{index:06d}"
        if isinstance(row.get("id"), bytes):
            name = row["id"].decode(errors="backslashreplace")
        answers = tuple(int(answer) for answer in row.get("answers", ()))
        return Record(where, name, row["image"], label, answers, self._folder)


def _open(split: Split, data_dirs: Sequence[pathlib.Path]) -> tfds.core.DatasetBuilder:
    data_dirs = [expanded(data_dir, field="data_dir") for data_dir in data_dirs]
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
                    "Delete it and prepare the data set again."
                ) from error
    known = sorted(
        str(path.parent.parent.relative_to(data_dir))
        for data_dir in data_dirs
        for path in data_dir.glob("**/features.json")
        if _is_prepared(path)
    )
    prepare = command(split.name, data_dirs[-1])
    raise ConfigError(
        f"data set {split.name!r}: no prepared TFDS folder in {' or '.join(map(str, data_dirs))}."
        f"{'' if prepare else nearest(split.name, known)} "
        f"Found there: {', '.join(known[:12]) or 'nothing'}. "
        f"{f'Run {prepare}, or set' if prepare else 'Set'} --config.data_dir to the folder that "
        "holds it."
    )


def _fingerprint(folder: pathlib.Path, bases: set[str]) -> int:
    checksum = 0
    for path in sorted(folder.iterdir()):
        is_record = any(f"-{base}." in path.name for base in bases)
        if is_record or path.name == "features.json" or path.name.endswith(".labels.txt"):
            size = path.stat().st_size
            with path.open("rb") as file:
                content = file.read(_END)
                file.seek(max(size - _END, 0))
                content += file.read(_END)
            checksum = zlib.crc32(f"{path.name} {size} ".encode() + content, checksum)
    return checksum


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
