"""Prepared TFDS folders: which there are, and what lies in one."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.paths import expanded
from calib_jax.data.official import command


def open_folder(name: str, data_dirs: Sequence[pathlib.Path]) -> tfds.core.DatasetBuilder:
    """The newest version of a prepared data set, from the first folder that holds one.

    Raises:
        ConfigError: There is none, or it is damaged.
    """
    data_dirs = [expanded(data_dir, field="data_dir") for data_dir in data_dirs]
    for data_dir in data_dirs:
        folder = data_dir / name
        versions = [path.parent for path in folder.glob("*/features.json") if _is_prepared(path)]
        if versions:
            newest = max(versions, key=lambda path: tuple(map(int, path.name.split("."))))
            try:
                return tfds.builder_from_directory(str(newest))
            except (ParseError, ValueError, OSError) as error:
                raise ConfigError(
                    f"data set {name!r}: the folder {newest} is damaged: {reason(error)}. "
                    "Delete it and prepare the data set again."
                ) from error
    known = sorted(
        str(path.parent.parent.relative_to(data_dir))
        for data_dir in data_dirs
        for path in data_dir.glob("**/features.json")
        if _is_prepared(path)
    )
    prepare = command(name, data_dirs[-1])
    raise ConfigError(
        f"data set {name!r}: no prepared TFDS folder in {' or '.join(map(str, data_dirs))}."
        f"{'' if prepare else nearest(name, known)} "
        f"Found there: {', '.join(known[:12]) or 'nothing'}. "
        f"{f'Run {prepare}, or set' if prepare else 'Set'} --config.data_dir to the folder that "
        "holds it."
    )


def files_of(folder: pathlib.Path, bases: set[str]) -> list[pathlib.Path]:
    """The records of these splits, and what says what they hold."""
    return [
        path
        for path in sorted(folder.iterdir())
        if any(f"-{base}." in path.name for base in bases)
        or path.name == "features.json"
        or path.name.endswith(".labels.txt")
    ]


def _is_prepared(features: pathlib.Path) -> bool:
    # An interrupted preparation leaves a folder such as 1.0.0.incompleteA1B2C3.
    return re.fullmatch(r"\d+\.\d+\.\d+", features.parent.name) is not None


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")


# Not annotated as a Sequence: the run-time type checks of the tests would read a random record.
def open_split(builder: tfds.core.DatasetBuilder, split: str, description: str) -> Any:
    """The records of a split or of a slice of one, by index, images still encoded.

    Args:
        builder: Of the data set.
        split: In TFDS's notation.
        description: `name[split]`, for messages.

    Raises:
        ConfigError: There is no such split, or it is empty, or no ArrayRecord.
    """
    splits = sorted(builder.info.splits)
    if split.split("[")[0] not in splits:
        raise ConfigError(
            f"data set {description}: got split {split!r}, expected one of "
            f"{', '.join(splits)}.{nearest(split, splits)} Correct the split's name."
        )
    try:
        source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        if len(source) == 0:
            raise ValueError("it is empty")
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"data set {description}: cannot be opened: {reason(error)}. "
            "Prepare it as ArrayRecord, and write slices that are not empty as train[:90%]."
        ) from error
    return source
