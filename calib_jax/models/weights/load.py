"""The one door for weights: a folder, a file or a hub id in, a model out."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calib_jax.core import hub, manifests
from calib_jax.core.errors import ConfigError, WeightsError
from calib_jax.core.paths import expanded
from calib_jax.core.types import Params
from calib_jax.models.config import ClipConfig
from calib_jax.models.weights import files, hugging_face, open_clip, openai, positions, table
from calib_jax.models.weights.fields import Fields, read_fields
from calib_jax.models.weights.table import TensorRow, Tensors

HF_CONFIG, HF_PREPROCESSOR = "config.json", "preprocessor_config.json"
HF_PROCESSOR = "processor_config.json"  # since transformers 5, with the image processor inside
OPEN_CLIP_CONFIG = "open_clip_config.json"
HF_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was read.

    Attributes:
        config: Its sizes.
        params: Its float32 parameters.
        eot: The id of the token that ends a text, which the tokenizer must share.
        folder: Where it lies, and its tokenizer may.
    """

    config: ClipConfig
    params: Params
    eot: int
    folder: Path


def read_model(
    source: str, *, image_size: int = 0, activation: str = "", field: str = "pretrained"
) -> Checkpoint:
    """Returns a CLIP model in any layout of the ecosystem, with all that it holds checked.

    Args:
        source: A folder or a hub id in Hugging Face's layout (`config.json` of model type
            `clip`) or open_clip's (`open_clip_config.json`). Or a file in OpenAI's naming:
            `.safetensors`, or a `.pt`, `.pth` or `.bin` of torch, nothing of which is run. A
            file with its config beside it is read like their folder.
        image_size: Side of the images in pixels; the position embeddings are interpolated to
            it. 0 keeps the checkpoint's.
        activation: `quick_gelu` or `gelu`, for a file alone, which cannot tell: OpenAI's models
            have `quick_gelu`, also the default; most of open_clip's have `gelu`.
        field: The config field that names the source, for the errors.

    Raises:
        ConfigError: The source is no folder, file or hub id, or the sizes make no model.
        WeightsError: A file is missing, damaged, of another kind of model, or does not fit.
    """
    path = expanded(source, field=field)
    if path.is_file():
        file, tensors = path, files.read_tensors(path)
        layout = _layout_of_file(path, tensors, activation)
    else:
        # What can be wrong with these small files is found before gigabytes are downloaded.
        patterns = ("*.json", "*.txt", manifests.MANIFEST)
        folder = hub.folder_of(source, field=field, patterns=patterns)
        layout = _layout_of_folder(folder)
        if not path.is_dir():
            folder = _download(source, layout.weights, field)
        file = _first_of(folder, layout.weights)
        tensors = files.read_tensors(file)
        manifests.announce_absence(file)
    config = layout.config
    if activation not in ("", config.activation):
        raise WeightsError(
            f"{field}: got activation {activation!r}, expected {config.activation!r}, which the "
            f"config beside {file} says. Leave it out."
        )
    flat = table.load(
        tensors, layout.rows(config), config, origin=str(file), ignored=layout.ignored
    )
    if image_size not in (0, config.vision.image_size):
        config, flat = positions.resize_positions(config, flat, image_size)
    return Checkpoint(config, table.tree_of(flat), layout.eot, file.parent)


@dataclass(frozen=True)
class _Layout:
    """What is known of a model before its tensors are converted.

    Attributes:
        config: Its sizes.
        eot: The id of the token that ends a text.
        rows: The table of the tensors' naming.
        ignored: Names of tensors that hold no parameters.
        weights: Names of the files that may hold the tensors, the best first.
    """

    config: ClipConfig
    eot: int
    rows: Callable[[ClipConfig], list[TensorRow]]
    ignored: re.Pattern[str]
    weights: Sequence[str] = ()


def _layout_of_file(path: Path, tensors: Tensors, activation: str) -> _Layout:
    if hugging_face.is_own(tensors):
        if not (path.parent / HF_CONFIG).is_file():
            raise WeightsError(
                f"weights: got {path}, whose tensors have Hugging Face's names, without "
                f"{HF_CONFIG}, expected it beside the file. Put the model's {HF_CONFIG} there."
            )
        return _hugging_face(path.parent)
    if path.name in OPEN_CLIP_WEIGHTS and (path.parent / OPEN_CLIP_CONFIG).is_file():
        return _open_clip(path.parent)
    if not activation:
        activation = "quick_gelu"
        logging.getLogger("calib_jax").warning(
            "%s alone does not tell the activation: assuming quick_gelu, as in OpenAI's models; "
            "set --config.activation (most of open_clip's have gelu)",
            path,
        )
    config = openai.sizes(tensors, activation=activation, origin=str(path))
    _validate(config, path)
    return _Layout(config, config.text.vocab_size - 1, openai.rows, openai.IGNORED)


def _layout_of_folder(folder: Path) -> _Layout:
    if _is_open_clip(folder):
        return _open_clip(folder)
    if (folder / HF_CONFIG).is_file():
        return _hugging_face(folder)
    raise WeightsError(
        f"weights: got {folder} without {HF_CONFIG} and {OPEN_CLIP_CONFIG}, expected one of "
        "them. Name the file itself if it is in OpenAI's naming."
    )


def _hugging_face(folder: Path) -> _Layout:
    path = folder / HF_CONFIG
    model = read_fields(path)
    _validate(hugging_face.config_of(model, None)[0], path)  # before its sizes judge another file
    config, eot = hugging_face.config_of(model, _preprocessor(folder))
    _validate(config, path)
    return _Layout(config, eot, hugging_face.rows, hugging_face.IGNORED, HF_WEIGHTS)


def _preprocessor(folder: Path) -> Fields | None:
    """What is said of the image processor; the joint file wins, as for `transformers`."""
    joint, own = folder / HF_PROCESSOR, folder / HF_PREPROCESSOR
    if joint.is_file():
        fields = read_fields(joint)
        if fields.get("image_processor") is not None:
            return fields.inner("image_processor")
    return read_fields(own) if own.is_file() else None


def _open_clip(folder: Path) -> _Layout:
    path = folder / OPEN_CLIP_CONFIG
    config, eot = open_clip.config_of(read_fields(path))
    _validate(config, path)
    return _Layout(config, eot, openai.rows, openai.IGNORED, OPEN_CLIP_WEIGHTS)


def _validate(config: ClipConfig, path: Path) -> None:
    try:
        config.validate()
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None


def _is_open_clip(folder: Path) -> bool:
    """Whether a folder is to be read as open_clip's: some hold both layouts."""
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        return False
    if not (folder / HF_CONFIG).is_file():
        return True
    if read_fields(folder / HF_CONFIG).get("model_type") != "clip":
        return True
    return not _present(folder, HF_WEIGHTS) and bool(_present(folder, OPEN_CLIP_WEIGHTS))


def _present(folder: Path, names: Sequence[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _first_of(folder: Path, names: Sequence[str]) -> Path:
    present = _present(folder, names)
    if not present:
        halves = sorted(path.name for path in folder.rglob("*.incomplete"))
        half = f", but with a half-finished download ({halves[0]})" if halves else ""
        raise WeightsError(
            f"weights: got {folder} without weights{half}, expected {', '.join(names[:-1])} or "
            f"{names[-1]}. Download the model again."
        )
    return present[0]


def _download(source: str, names: Sequence[str], field: str) -> Path:
    """The folder of a hub id, with its weights in one format only."""
    for suffix in (files.SAFETENSORS, ".bin"):
        # With the shards; their index came with the other JSON files.
        patterns = [x.replace(suffix, f"*{suffix}") for x in names if x.endswith(suffix)]
        folder = hub.folder_of(source, field=field, patterns=patterns)
        if any(any(folder.glob(pattern)) for pattern in patterns):
            break
    return folder
