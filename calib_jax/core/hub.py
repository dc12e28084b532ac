"""Folders of the Hugging Face hub: downloaded once, found again without a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from calib_jax.core.errors import ConfigError
from calib_jax.core.paths import expanded

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def folder_of(source: str, *, field: str, patterns: Sequence[str]) -> Path:
    """Returns a folder with a model's files: `source` itself, or the hub's copy on this machine.

    Args:
        source: A folder, or a hub id such as `openai/clip-vit-base-patch16`. A folder wins.
        field: The config field that names it, for the errors.
        patterns: Shell patterns of the files to download; those of a hub id already here are
            not downloaded again.

    Raises:
        ConfigError: It is neither; or the hub cannot be reached, or does not give it.
    """
    folder = expanded(source, field=field)
    if source and folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(source) or source.startswith(".") or folder.suffix in _WEIGHTS:
        raise ConfigError(
            f"{field}: got {source!r}, expected a file or folder that is there, or a hub id "
            "like 'openai/clip-vit-base-patch16'. Check the path."
        )
    # Takes half a second, and most runs do not need it.
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=list(patterns)))
    except errors.GatedRepoError:
        reason = "the hub asks for permission: log in with `hf auth login`"
    except errors.RepositoryNotFoundError:
        reason = "the hub has no such model, or keeps it private"
    except (OSError, ValueError) as error:
        reason = f"the hub cannot be reached ({_first_line(error)})"
    raise ConfigError(
        f"{field}: {source!r} is no folder here, and {reason}. Download it elsewhere with `hf "
        f"download {source} --local-dir FOLDER`, copy it, and set --config.{field}=FOLDER."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
