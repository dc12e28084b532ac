"""OpenAI's CLIP weights (ViT image towers), in and out, from one table.

Everything is strict: a tensor without a row, a row without a tensor, or a shape that does
not fit is an error, and all the problems of a file are reported at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from calib_jax.core import trees
from calib_jax.core.errors import WeightsError
from calib_jax.core.types import Params
from calib_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from calib_jax.models.encoder import Encoder


@dataclass(frozen=True)
class Row:
    """One tensor of the file and the parameters it holds.

    Attributes:
        source: Its name in the file; in `BLOCK`, within the block.
        ours: Paths of our parameters: the equal parts of the tensor along its first axis.
        axes: Permutation from a part's axes to ours; empty keeps them.
    """

    source: str
    ours: tuple[str, ...]
    axes: tuple[int, ...] = ()

    def load(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Returns our float32 parameters by path."""
        parts = np.split(tensor, len(self.ours)) if len(self.ours) > 1 else [tensor]
        return {
            path: np.asarray(_permute(part, self.axes), np.float32)
            for path, part in zip(self.ours, parts, strict=True)
        }

    def store(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the tensor of the file: the inverse of `load`."""
        inverse = tuple(np.argsort(self.axes).tolist())
        parts = [_permute(params[path], inverse) for path in self.ours]
        return np.array(np.concatenate(parts) if len(parts) > 1 else parts[0], order="C")

    def source_shape(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Returns the tensor's shape, given the shapes of our parameters."""
        shape = shapes[self.ours[0]]
        if self.axes:
            shape = tuple(shape[i] for i in np.argsort(self.axes))
        return (shape[0] * len(self.ours), *shape[1:]) if len(self.ours) > 1 else shape


def _permute(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.transpose(x, axes) if axes else x


LINEAR = (1, 0)  # torch keeps [out, in], Flax [in, out]
CONV = (2, 3, 1, 0)  # [out, in, h, w] to [h, w, in, out]
QKV = ("query", "key", "value")

BLOCK = (
    Row("ln_1.weight", ("norm_1/scale",)),
    Row("ln_1.bias", ("norm_1/bias",)),
    Row("attn.in_proj_weight", tuple(f"attention/{x}/kernel" for x in QKV), LINEAR),
    Row("attn.in_proj_bias", tuple(f"attention/{x}/bias" for x in QKV)),
    Row("attn.out_proj.weight", ("attention/out/kernel",), LINEAR),
    Row("attn.out_proj.bias", ("attention/out/bias",)),
    Row("ln_2.weight", ("norm_2/scale",)),
    Row("ln_2.bias", ("norm_2/bias",)),
    Row("mlp.c_fc.weight", ("mlp/up/kernel",), LINEAR),
    Row("mlp.c_fc.bias", ("mlp/up/bias",)),
    Row("mlp.c_proj.weight", ("mlp/down/kernel",), LINEAR),
    Row("mlp.c_proj.bias", ("mlp/down/bias",)),
)
VISION_BLOCK = "visual.transformer.resblocks"
TEXT_BLOCK = "transformer.resblocks"
TOP = (
    Row("visual.conv1.weight", ("image/patch/kernel",), CONV),
    Row("visual.class_embedding", ("image/class_embedding",)),
    Row("visual.positional_embedding", ("image/position_embedding",)),
    Row("visual.ln_pre.weight", ("image/norm_pre/scale",)),
    Row("visual.ln_pre.bias", ("image/norm_pre/bias",)),
    Row("visual.ln_post.weight", ("image/norm_post/scale",)),
    Row("visual.ln_post.bias", ("image/norm_post/bias",)),
    Row("visual.proj", ("image/projection/kernel",)),
    Row("token_embedding.weight", ("text/token_embedding",)),
    Row("positional_embedding", ("text/position_embedding",)),
    Row("ln_final.weight", ("text/norm_final/scale",)),
    Row("ln_final.bias", ("text/norm_final/bias",)),
    Row("text_projection", ("text/projection/kernel",)),
    Row("logit_scale", ("logit_scale",)),
)
# Sizes that OpenAI's archives repeat as scalars; ours come from the shapes.
BUFFERS = frozenset({"input_resolution", "context_length", "vocab_size"})


def read_openai(path: str | Path, *, activation: str = "quick_gelu") -> tuple[ClipConfig, Params]:
    """Returns the config and the float32 parameters of a `.safetensors` file in OpenAI's naming.

    Args:
        path: The file; half-precision tensors are widened.
        activation: What the file does not say; OpenAI's own models have `quick_gelu`.

    Raises:
        WeightsError: The file is missing, damaged, of another format, or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"weights: got no file at {path}, expected a .safetensors file. Check the path."
        )
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"weights: got {path}, expected a .safetensors file; only ViT safetensors are read "
            "as yet. Convert it with safetensors.torch.save_file."
        )
    try:
        state_dict = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"weights: got {path}, which is damaged or not safetensors ({error}), expected a whole "
            "file. Download it again."
        ) from error
    return _convert(state_dict, activation, str(path))


def from_openai(
    state_dict: Mapping[str, np.ndarray], *, activation: str = "quick_gelu"
) -> tuple[ClipConfig, Params]:
    """Returns the config, inferred from the shapes, and the float32 parameters.

    Heads are width / 64 in both towers, as in all of OpenAI's ViT models.

    Raises:
        WeightsError: Everything that is missing, unknown, of a wrong shape or not finite.
    """
    return _convert(state_dict, activation, "state dict")


def to_openai(config: ClipConfig, params: Params) -> dict[str, np.ndarray]:
    """Returns float32 tensors in OpenAI's naming: the exact inverse of `from_openai`.

    The naming does not hold the activation: give it again when reading.

    Raises:
        WeightsError: OpenAI's naming cannot express the config, or `params` are not its own.
    """
    for name, tower in (("vision", config.vision), ("text", config.text)):
        if tower.num_heads * 64 != tower.width:
            raise WeightsError(
                f"{name}.num_heads: got {tower.num_heads}, expected {name}.width / 64 = "
                f"{tower.width / 64:g}, which OpenAI's naming implies. Keep such a model in a "
                "checkpoint."
            )
    flat = {path: np.asarray(x, np.float32) for path, x in _flat(params).items()}
    problems = _mismatches({path: x.shape for path, x in flat.items()}, _our_shapes(config))
    if problems:
        raise WeightsError(
            f"params: got {len(problems)} problem(s): {'; '.join(problems)}, expected the "
            "parameters of this config. Pass the config they were made with."
        )
    rows = _table(config.vision.num_layers, config.text.num_layers)
    return {row.source: row.store(flat) for row in rows}


def write_openai(path: Path, config: ClipConfig, params: Params) -> None:
    """Writes the parameters as a `.safetensors` file in OpenAI's naming."""
    safetensors.numpy.save_file(to_openai(config, params), path)


def _convert(
    state_dict: Mapping[str, np.ndarray], activation: str, origin: str
) -> tuple[ClipConfig, Params]:
    tensors = {name: x for name, x in state_dict.items() if name not in BUFFERS}
    if any(name.startswith("visual.layer1.") for name in tensors):
        raise WeightsError(
            f"{origin}: got a ModifiedResNet, expected a ViT; only ViT safetensors are read as "
            "yet. Use a ViT model."
        )
    layers = _num_blocks(tensors, VISION_BLOCK), _num_blocks(tensors, TEXT_BLOCK)
    rows = _table(*layers)
    if not any(row.source in tensors for row in rows):
        raise WeightsError(
            f"{origin}: got names like {min(tensors, default='(none)')!r}, expected OpenAI's, "
            "like 'visual.conv1.weight'. Export the model in OpenAI's naming."
        )
    config, problems = _infer(tensors, layers, activation)
    got = {name: x.shape for name, x in tensors.items()}
    if config is None:  # no sizes to check against: names only
        problems += _mismatches(dict.fromkeys(got, ()), {row.source: () for row in rows})
    else:
        config.validate()
        shapes = _our_shapes(config)
        problems += _mismatches(got, {row.source: row.source_shape(shapes) for row in rows})
    for name, x in tensors.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            problems.append(f"{name} is {x.dtype}, not floating-point")
        elif not np.isfinite(x.astype(np.float32)).all():
            problems.append(f"{name} holds NaN or infinity")
    if config is None or problems:
        raise WeightsError(
            f"{origin}: got {len(problems)} problem(s): {'; '.join(problems)}, expected every "
            "tensor of OpenAI's ViT naming and no other. Check which model the weights belong to."
        )
    flat = {path: x for row in rows for path, x in row.load(tensors[row.source]).items()}
    # A copy: device memory must not alias the caller's arrays, because steps donate parameters.
    return config, traverse_util.unflatten_dict(
        {path: jnp.array(x) for path, x in flat.items()}, sep="/"
    )


def _infer(
    tensors: Mapping[str, np.ndarray], layers: tuple[int, int], activation: str
) -> tuple[ClipConfig | None, list[str]]:
    """The config that the shapes of the five sizing tensors imply, or what is wrong with them."""
    ranks = {
        "visual.conv1.weight": 4,
        "visual.positional_embedding": 2,
        "token_embedding.weight": 2,
        "positional_embedding": 2,
        "text_projection": 2,
    }
    if not ranks.keys() <= tensors.keys():
        return None, []  # reported as missing
    problems = [
        f"{name} has shape {tensors[name].shape}, not {rank} axes that are not empty"
        for name, rank in ranks.items()
        if tensors[name].ndim != rank or not tensors[name].size
    ]
    problems += [
        f"{block}.* has no block"
        for block, n in zip((VISION_BLOCK, TEXT_BLOCK), layers, strict=True)
        if not n
    ]
    if problems:
        return None, problems
    width, _, patch_size, _ = tensors["visual.conv1.weight"].shape
    num_positions = len(tensors["visual.positional_embedding"])
    vocab_size, text_width = tensors["token_embedding.weight"].shape
    grid = math.isqrt(num_positions - 1)
    if grid == 0 or grid**2 + 1 != num_positions:
        problems.append(
            f"visual.positional_embedding has {num_positions} rows, not 1 + a square number"
        )
    for name, size in (("visual.conv1.weight", width), ("token_embedding.weight", text_width)):
        if size % 64:
            problems.append(f"{name} has width {size}, not a multiple of 64 (the size of a head)")
    if problems:
        return None, problems
    return ClipConfig(
        embed_dim=tensors["text_projection"].shape[1],
        vision=VisionConfig(
            image_size=grid * patch_size,
            patch_size=patch_size,
            width=width,
            num_layers=layers[0],
            num_heads=width // 64,
        ),
        text=TextConfig(
            vocab_size=vocab_size,
            context_length=len(tensors["positional_embedding"]),
            width=text_width,
            num_layers=layers[1],
            num_heads=text_width // 64,
        ),
        activation=activation,
    ), []


def _table(vision_layers: int, text_layers: int) -> list[Row]:
    """All the rows of a model of this depth."""
    rows = list(TOP)
    for tower, block, num_layers in (
        ("image", VISION_BLOCK, vision_layers),
        ("text", TEXT_BLOCK, text_layers),
    ):
        for i in range(num_layers):
            rows += [
                Row(
                    f"{block}.{i}.{row.source}",
                    tuple(f"{tower}/block_{i}/{path}" for path in row.ours),
                    row.axes,
                )
                for row in BLOCK
            ]
    return rows


def _num_blocks(tensors: Mapping[str, np.ndarray], block: str) -> int:
    matches = (re.match(rf"{re.escape(block)}\.(\d+)\.", name) for name in tensors)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def _our_shapes(config: ClipConfig) -> dict[str, tuple[int, ...]]:
    params = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    return {path: x.shape for path, x in _flat(params).items()}


def _flat(params: Params) -> dict[str, Any]:
    return dict(zip(trees.leaf_names(params), jax.tree.leaves(params), strict=True))


def _mismatches(
    got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    missing = [f"{name} is missing" for name in expected if name not in got]
    unknown = [f"{name} is unknown" for name in got if name not in expected]
    wrong = [
        f"{name} has shape {got[name]}, not {shape}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    return missing + unknown + wrong
