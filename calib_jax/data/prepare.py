"""The command that writes a data set as ArrayRecord, once.

`python -m calib_jax.data.prepare NAME --data_dir=DIR [--archive=PATH] [--no_check |
--leave_out_broken]`. docs/datasets.md has the command for each data set.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from calib_jax.core.errors import CalibJaxError, ConfigError, DataError, nearest
from calib_jax.core.printing import say
from calib_jax.data.builders.archives import Archive, open_archive
from calib_jax.data.builders.image_files import ImageFiles
from calib_jax.data.builders.image_folder import image_folder
from calib_jax.data.builders.imagenet_c import imagenet_c
from calib_jax.data.builders.imagenet_real import imagenet_real
from calib_jax.data.builders.objectnet import objectnet
from calib_jax.data.datasets import pacs
from calib_jax.data.datasets.imagenet import WORDNET_IDS
from calib_jax.data.official import OFFICIAL_ARCHIVES


def prepare(
    name: str,
    data_dir: pathlib.Path,
    archive: pathlib.Path | None = None,
    *,
    check: bool = True,
    leave_out_broken: bool = False,
) -> Sequence[tfds.core.DatasetBuilder]:
    """Builders of what is now in `data_dir`; what was there already is left alone.

    Args:
        name: One of OFFICIAL_ARCHIVES, or any data set of TFDS, with the config where it has
            several (`domainnet/sketch`; a pattern takes all that match: `cifar10_corrupted/*`).
        data_dir: Folder to write to.
        archive: What to read; for data sets of TFDS the folder with what it cannot download.
        check: Decode every image of the archive before anything is written; else only their
            beginnings are looked at.
        leave_out_broken: Leave out the images that cannot be decoded.

    Raises:
        ConfigError: The name is unknown; the archive is missing, or is not wanted; TensorFlow is
            missing; a data set of TFDS shall leave out images, or there is no check to find them.
        DataError: The archive or a download cannot be used, or holds a broken image.
    """
    if leave_out_broken and not check:
        raise ConfigError(
            "leave_out_broken: got it with no_check, which finds no broken image. Leave one out."
        )
    if data_dir.exists() and not data_dir.is_dir():
        raise ConfigError(f"data_dir: got the file {data_dir}, expected a folder. Correct it.")
    is_ours = name in OFFICIAL_ARCHIVES or bool(re.fullmatch(r"image_folder/\w[\w.-]*", name))
    if is_ours and archive is not None:
        with open_archive(archive) as opened:
            builders = []
            for builder in _ours(name)(opened, data_dir):
                if not _is_there(builder):
                    if check:
                        builder = builder.checked(leave_out_broken=leave_out_broken)
                    builder.write()
                    for remark in builder.remarks:
                        say(f"{builder.info.full_name}: {remark}.")
                builders.append(builder)
            return builders
    base = name.partition("/")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if base in known:
        if leave_out_broken:
            raise ConfigError(
                f"leave_out_broken: got it with {name}, which TFDS itself prepares. Leave it out."
            )
        return _prepare_with_tfds(name, data_dir, archive)
    if is_ours:
        where = OFFICIAL_ARCHIVES.get(name, OFFICIAL_ARCHIVES["image_folder/NAME"])
        raise ConfigError(f"{name}: it is read from {where}. Pass its path as --archive=PATH.")
    raise ConfigError(
        f"name: got {name!r}, expected one of {', '.join(OFFICIAL_ARCHIVES)} or a data set of TFDS."
        f"{nearest(base, [*OFFICIAL_ARCHIVES, *known], cutoff=0.7)} Correct it."
    )


def _ours(name: str) -> Callable[[Archive, pathlib.Path], list[ImageFiles]]:
    if name == "imagenet_c":
        return imagenet_c
    if name == "imagenet_real":
        return lambda archive, data_dir: [imagenet_real(archive, data_dir)]
    if name == "objectnet":
        return lambda archive, data_dir: [objectnet(archive, data_dir)]
    class_of = None  # an image folder's classes are its own
    if name.startswith("imagenet_v2/"):
        class_of = {str(index): wordnet_id for index, wordnet_id in enumerate(WORDNET_IDS)}
    elif name in OFFICIAL_ARCHIVES:
        names = pacs.CLASS_NAMES if name == "pacs" else WORDNET_IDS
        class_of = dict(zip(names, names, strict=True))
    return lambda archive, data_dir: [image_folder(name, archive, data_dir, class_of=class_of)]


def _prepare_with_tfds(
    name: str, data_dir: pathlib.Path, archive: pathlib.Path | None
) -> list[tfds.core.DatasetBuilder]:
    try:
        builders = [
            tfds.builder(one, data_dir=str(data_dir), file_format="array_record")
            for one in _tfds_names(name)
        ]
    except ModuleNotFoundError as error:
        raise _needs(error.name or "a module", name) from error
    absent = [builder for builder in builders if not _is_there(builder)]
    if not absent:
        return builders
    # Its builders import the second too, which TFDS 4.9.10 does not install.
    if any(map(_is_missing, ("tensorflow", "importlib_resources"))):
        raise _needs("TensorFlow", name)
    instructions = " ".join((builders[0].MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    if instructions and archive is None:
        raise ConfigError(f"{name}: {instructions.rstrip('.')}. Pass that folder as --archive=DIR.")
    if archive is not None and not instructions:
        raise ConfigError(f"{name}: got --archive, but TFDS downloads it. Leave it out.")
    if archive is not None and not archive.exists():
        raise ConfigError(f"archive: got {archive}, but there is no such folder. Correct the path.")
    manual_dir = None
    if archive is not None:
        manual_dir = str(archive if archive.is_dir() else archive.parent)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    for builder in absent:
        try:
            builder.download_and_prepare(
                download_dir=str(data_dir / "downloads"), download_config=config
            )
        # AssertionError is TFDS's for files that are not in the folder; requests' are OSErrors.
        except (
            AssertionError,
            OSError,
            tfds.download.DownloadError,
            NonMatchingChecksumError,
        ) as error:
            raise DataError(
                f"{builder.info.full_name}: TFDS cannot prepare it: {_reason(error)}. Check the "
                "connection, and the files in --archive."
            ) from error
    return builders


def _is_there(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether it is on disk, which is then said."""
    if not (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file():
        return False
    say(f"{builder.info.full_name}: it was there already; nothing was read.")
    return True


def _needs(module: str, name: str) -> ConfigError:
    with_archive = f", or pass {OFFICIAL_ARCHIVES[name]}" if name in OFFICIAL_ARCHIVES else ""
    return ConfigError(
        f"{name}: TFDS needs {module} to prepare it; reading it does not. "
        f'Run pip install "calib_jax[prepare]"{with_archive}.'
    )


def _is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _tfds_names(name: str) -> list[str]:
    """The data sets that a name with a pattern stands for."""
    base, _, pattern = name.partition("/")
    configs = list(tfds.builder_cls(base).builder_configs)
    if not configs and not pattern:
        return [base]
    if len(configs) > 1 and not pattern:
        raise ConfigError(
            f"{name}: it has {len(configs)} configs, expected one of them: "
            f"{', '.join(configs[:8])}... Append it, or '/*' for all."
        )
    found = fnmatch.filter(configs, pattern or "*")
    if not found:
        raise ConfigError(
            f"{name}: {base} has no config {pattern!r}.{nearest(pattern, configs)} Correct it."
        )
    return [f"{base}/{config}" for config in found]


def _reason(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:300].rstrip(".")


def _path(text: str) -> pathlib.Path:
    """The shell leaves the ~ of --archive=~/x alone."""
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise argparse.ArgumentTypeError(f"got {text}, but there is no such user") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command: 0, or that of an error whose one line it has printed."""
    parser = argparse.ArgumentParser(
        prog="python -m calib_jax.data.prepare",
        description="Writes a data set as ArrayRecord. docs/datasets.md has a command for each.",
    )
    parser.add_argument("name", help="a data set, such as objectnet, cifar10 or domainnet/sketch")
    parser.add_argument("--data_dir", type=_path, required=True, help="folder to write to")
    parser.add_argument("--archive", type=_path, help="what to read: folder, .zip or .tar")
    parser.add_argument(
        "--no_check", action="store_true", help="do not decode every image of the archive first"
    )
    parser.add_argument(
        "--leave_out_broken", action="store_true", help="leave out images that cannot be decoded"
    )
    options = parser.parse_args(arguments)
    try:
        for builder in prepare(
            options.name,
            options.data_dir,
            options.archive,
            check=not options.no_check,
            leave_out_broken=options.leave_out_broken,
        ):
            for split, info in builder.info.splits.items():
                say(f"{builder.info.full_name}: {info.num_examples:,} images in split {split}")
    except CalibJaxError as error:
        say(f"calib_jax: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
