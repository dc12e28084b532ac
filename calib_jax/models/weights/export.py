"""Models out, in the layouts that the ecosystem loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.numpy

from calib_jax.core.manifests import recorded
from calib_jax.core.types import Params
from calib_jax.models.config import ClipConfig, ResNetConfig
from calib_jax.models.weights import hugging_face, load, open_clip, openai, table


def write_model(
    folder: Path, config: ClipConfig, params: Params, *, bos: int, eot: int, pad: int
) -> None:
    """Writes the model's files into a folder, which `load.read_model` reads back bit for bit.

    A ViT is written in Hugging Face's layout (`transformers`' `CLIPModel.from_pretrained`
    loads it), a ResNet, which that does not have, in open_clip's. Each file appears whole or
    not at all, the config last, then their checksums; other files of the folder stay.

    Args:
        folder: Made where it is not there.
        config: The model.
        params: Its parameters.
        bos: The id of the token that begins a text.
        eot: The id of the token that ends a text.
        pad: The id of the token that follows the end.

    Raises:
        WeightsError: `params` are not those of the config.
    """
    if isinstance(config.vision, ResNetConfig):
        tensors = table.store(config, params, openai.rows(config)) | openai.counters(config)
        weights = load.OPEN_CLIP_WEIGHTS[0]
        descriptions = {load.OPEN_CLIP_CONFIG: open_clip.describe(config, eot=eot)}
    else:
        tensors = table.store(config, params, hugging_face.rows(config))
        weights = load.HF_WEIGHTS[0]
        model, preprocessor = hugging_face.describe(config, bos=bos, eot=eot, pad=pad)
        descriptions = {load.HF_PREPROCESSOR: preprocessor, load.HF_CONFIG: model}
    with recorded(folder, (weights, *descriptions)):
        _write_whole(
            folder / weights,
            lambda path: safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"}),
        )
        for name, description in descriptions.items():
            _write_json(folder / name, description)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    _write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside the file first, so that no reader sees half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
