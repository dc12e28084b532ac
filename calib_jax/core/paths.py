"""Paths as people write them."""

from __future__ import annotations

import pathlib

from calib_jax.core.errors import ConfigError


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
