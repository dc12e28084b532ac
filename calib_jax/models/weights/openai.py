"""OpenAI's naming of CLIP's weights, which open_clip shares: its table, and the sizes it implies.

Source: `openai/CLIP` (`clip/model.py`, `build_model`), for ViT and ModifiedResNet image towers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from calib_jax.core.errors import WeightsError
from calib_jax.models.config import ClipConfig, ResNetConfig, TextConfig, VisionConfig
from calib_jax.models.weights import table
from calib_jax.models.weights.table import CONV, LINEAR, TensorRow, Tensors, linear, nested, norm

# Sizes that OpenAI's archives repeat as scalars, and the step counters of batch norms.
IGNORED = re.compile(r"input_resolution|context_length|vocab_size|.*\.num_batches_tracked")
_COUNTER = "num_batches_tracked"

_HEAD_WIDTH = 64
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}  # open_clip's ViT-H, g, bigG and e

_QKV = ("query", "key", "value")
_BLOCK = (
    *norm("ln_1", "norm_1"),
    TensorRow("attn.in_proj_weight", tuple(f"attention/{x}/kernel" for x in _QKV), LINEAR),
    TensorRow("attn.in_proj_bias", tuple(f"attention/{x}/bias" for x in _QKV)),
    *linear("attn.out_proj", "attention/out"),
    *norm("ln_2", "norm_2"),
    *linear("mlp.c_fc", "mlp/up"),
    *linear("mlp.c_proj", "mlp/down"),
)
_VISION_BLOCK = "visual.transformer.resblocks"
_TEXT_BLOCK = "transformer.resblocks"
_TEXT = (
    TensorRow("token_embedding.weight", ("text/token_embedding",)),
    TensorRow("positional_embedding", ("text/position_embedding",)),
    *norm("ln_final", "text/norm_final"),
    TensorRow("text_projection", ("text/projection/kernel",)),
    TensorRow("logit_scale", ("logit_scale",)),
)
_VIT = (
    TensorRow("visual.conv1.weight", ("image/patch/kernel",), CONV),
    TensorRow("visual.class_embedding", ("image/class_embedding",)),
    TensorRow("visual.positional_embedding", ("image/position_embedding",)),
    *norm("visual.ln_pre", "image/norm_pre"),
    *norm("visual.ln_post", "image/norm_post"),
    TensorRow("visual.proj", ("image/projection/kernel",)),
)
_POOL = "visual.attnpool"
_ATTENTION_POOL = (
    TensorRow(f"{_POOL}.positional_embedding", ("image/pool/position_embedding",)),
    *linear(f"{_POOL}.q_proj", "image/pool/query"),
    *linear(f"{_POOL}.k_proj", "image/pool/key"),
    *linear(f"{_POOL}.v_proj", "image/pool/value"),
    *linear(f"{_POOL}.c_proj", "image/projection"),
)


def _conv_norm(conv: str, batch_norm: str, our_conv: str, our_norm: str) -> tuple[TensorRow, ...]:
    """The rows of a convolution without a bias, and of the batch norm after it."""
    return (
        TensorRow(f"{conv}.weight", (f"{our_conv}/kernel",), CONV),
        *norm(batch_norm, our_norm),
        TensorRow(f"{batch_norm}.running_mean", (f"{our_norm}/mean",)),
        TensorRow(f"{batch_norm}.running_var", (f"{our_norm}/var",)),
    )


_THREE_CONVS = tuple(
    row for i in (1, 2, 3) for row in _conv_norm(f"conv{i}", f"bn{i}", f"conv_{i}", f"norm_{i}")
)
_SHORTCUT = _conv_norm("downsample.0", "downsample.1", "shortcut_conv", "shortcut_norm")


def rows(config: ClipConfig) -> list[TensorRow]:
    """The table of a model of this depth."""
    vision = config.vision
    blocks = vision.num_blocks if isinstance(vision, ResNetConfig) else vision.num_layers
    return _rows(blocks, config.text.num_layers)


def _rows(vision_blocks: int | tuple[int, ...], text_layers: int) -> list[TensorRow]:
    found = list(_TEXT)
    if isinstance(vision_blocks, int):
        found += _VIT
        for i in range(vision_blocks):
            found += nested(_BLOCK, f"{_VISION_BLOCK}.{i}", f"image/block_{i}")
    else:
        found += [*_ATTENTION_POOL, *nested(_THREE_CONVS, "visual", "image")]
        for stage, num_blocks in enumerate(vision_blocks):
            for i in range(num_blocks):
                block = _THREE_CONVS + (_SHORTCUT if i == 0 else ())
                found += nested(
                    block, f"visual.layer{stage + 1}.{i}", f"image/stage_{stage}/block_{i}"
                )
    for i in range(text_layers):
        found += nested(_BLOCK, f"{_TEXT_BLOCK}.{i}", f"text/block_{i}")
    return found


def counters(config: ClipConfig) -> dict[str, np.ndarray]:
    """The step counters that torch keeps beside each batch norm: zeros, as in OpenAI's files."""
    sources = (row.source for row in rows(config))
    return {
        name.removesuffix("running_var") + _COUNTER: np.zeros((), np.int64)
        for name in sources
        if name.endswith(".running_var")
    }


def sizes(tensors: Tensors, *, activation: str, origin: str) -> ClipConfig:
    """Returns the config that the shapes imply.

    Heads are 64 wide, as in all of OpenAI's models. The exceptions are the image towers of
    open_clip's ViT-H, g, bigG and e, known by their widths 1280, 1408, 1664 and 1792.

    Args:
        tensors: The content of a file.
        activation: What no shape tells.
        origin: What the errors call the file.

    Raises:
        WeightsError: Another naming, or tensors that do not tell the sizes.
    """
    if not tensors.keys() & {row.source for row in _TEXT + _VIT + _ATTENTION_POOL}:
        raise WeightsError(
            f"{origin}: got names like {min(tensors, default='(none)')!r}, expected OpenAI's, "
            "like 'visual.conv1.weight'. Put the config.json or open_clip_config.json of the "
            "model beside the file."
        )
    vision_blocks, text_layers = _depths(tensors)
    is_vit = isinstance(vision_blocks, int)
    ranks = _RANKS | (_VIT_RANKS if is_vit else _RESNET_RANKS)
    problems = [
        f"{name} has shape {tensors[name].shape}, not {rank} axes that are not empty"
        for name, rank in ranks.items()
        if name in tensors and (tensors[name].ndim != rank or not tensors[name].size)
    ]
    if not problems and ranks.keys() <= tensors.keys():
        problems = [*_size_problems(tensors, is_vit=is_vit)]
    if problems or not ranks.keys() <= tensors.keys():  # no sizes to check against: names only
        expected = {row.source: () for row in _rows(vision_blocks, text_layers)}
        found = {name: () for name in tensors if not IGNORED.fullmatch(name)}
        table.raise_problems(problems + table.mismatches(found, expected), origin)
    vocab_size, text_width = tensors["token_embedding.weight"].shape
    return ClipConfig(
        embed_dim=tensors["text_projection"].shape[1],
        vision=_vit(tensors, vision_blocks)
        if isinstance(vision_blocks, int)
        else _resnet(tensors, vision_blocks),
        text=TextConfig(
            vocab_size=vocab_size,
            context_length=len(tensors["positional_embedding"]),
            width=text_width,
            num_layers=text_layers,
            num_heads=text_width // _HEAD_WIDTH,
            mlp_ratio=len(tensors[_TEXT_MLP]) / text_width,
        ),
        activation=activation,
    )


_TEXT_MLP, _VISION_MLP = f"{_TEXT_BLOCK}.0.mlp.c_fc.bias", f"{_VISION_BLOCK}.0.mlp.c_fc.bias"
_PATCH, _FIRST_CONV = "visual.conv1.weight", "visual.layer1.0.conv1.weight"
_GRID, _POOL_GRID = "visual.positional_embedding", f"{_POOL}.positional_embedding"
_RANKS = {"token_embedding.weight": 2, "positional_embedding": 2, "text_projection": 2}
_RANKS |= {_TEXT_MLP: 1}
_VIT_RANKS = {_PATCH: 4, _GRID: 2, _VISION_MLP: 1}
_RESNET_RANKS = {_FIRST_CONV: 4, _POOL_GRID: 2}


def _depths(tensors: Tensors) -> tuple[int | tuple[int, int, int, int], int]:
    """Blocks of the image tower, for a ResNet of each stage, and of the text tower."""
    text_layers = _num_blocks(tensors, _TEXT_BLOCK)
    if not any(name.startswith("visual.layer1.") for name in tensors):
        return _num_blocks(tensors, _VISION_BLOCK), text_layers
    one, two, three, four = (_num_blocks(tensors, f"visual.layer{i}") for i in (1, 2, 3, 4))
    return (one, two, three, four), text_layers


def _num_blocks(tensors: Tensors, block: str) -> int:
    """At least 1, so that a file without blocks lacks the tensors of the first."""
    matches = (re.match(rf"{re.escape(block)}\.(\d{{1,3}})\.", name) for name in tensors)
    return max((int(match[1]) + 1 for match in matches if match), default=1)


def _size_problems(tensors: Tensors, *, is_vit: bool) -> Iterator[str]:
    grid = _GRID if is_vit else _POOL_GRID
    num_positions = len(tensors[grid])
    if num_positions < 2 or _side(tensors[grid]) ** 2 + 1 != num_positions:
        yield f"{grid} has {num_positions} rows, not 1 + a square number"
    widths = {"token_embedding.weight": (tensors["token_embedding.weight"].shape[1], _HEAD_WIDTH)}
    if is_vit:
        width = len(tensors[_PATCH])
        widths[_PATCH] = (width, _HEAD_WIDTHS.get(width, _HEAD_WIDTH))
    else:
        widths[_FIRST_CONV] = (len(tensors[_FIRST_CONV]), 2)
    for name, (width, divisor) in widths.items():
        if width % divisor:
            yield f"{name} has width {width}, not a multiple of {divisor} (the size of a head)"


def _side(positions: np.ndarray) -> int:
    """Of the grid of positions, whose first row belongs to no place in it."""
    return math.isqrt(len(positions) - 1)


def _vit(tensors: Tensors, num_layers: int) -> VisionConfig:
    width, _, patch_size, _ = tensors[_PATCH].shape
    return VisionConfig(
        image_size=_side(tensors[_GRID]) * patch_size,
        patch_size=patch_size,
        width=width,
        num_layers=num_layers,
        num_heads=width // _HEAD_WIDTHS.get(width, _HEAD_WIDTH),
        mlp_ratio=len(tensors[_VISION_MLP]) / width,
    )


def _resnet(tensors: Tensors, num_blocks: tuple[int, int, int, int]) -> ResNetConfig:
    width = len(tensors[_FIRST_CONV])
    return ResNetConfig(
        image_size=_side(tensors[_POOL_GRID]) * 32,  # strides of stem and stages: 4, 1, 2, 2, 2
        width=width,
        num_blocks=num_blocks,
        num_heads=width * 32 // _HEAD_WIDTH,
    )
