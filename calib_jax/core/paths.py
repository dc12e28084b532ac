"""Paths as people write them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from calib_jax.core.errors import ConfigError

MAX_NAME_BYTES = 200
"""Of 255 that file systems take: suffixes come behind."""


def expanded(path: str | pathlib.Path, *, field: str) -> pathlib.Path:
    """The path with its `~` or `~user` replaced by the home folder.

    Args:
        path: With or without one.
        field: The config field that names it, for the error.

    Raises:
        ConfigError: There is no such user.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{field}: got {str(path)!r}, expected the home folder of a user that exists. Correct "
            "the path."
        ) from None


def check_names(names: Iterable[str], *, field: str) -> None:
    """Raises a ConfigError for a name that no file inside a folder could have.

    Args:
        names: Of methods or splits, which become names of files.
        field: The config field that has them, for the error.
    """
    for name in names:
        is_path = name.startswith("/") or {"", ".", ".."} & set(name.split("/"))
        if is_path or "\0" in name or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
            raise ConfigError(
                f"{field}: got the name {name!r}, expected one that can name a file: not empty, no "
                f"path outside its folder, at most {MAX_NAME_BYTES} bytes. Rename it."
            )
