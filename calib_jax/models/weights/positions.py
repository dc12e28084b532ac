"""Position embeddings of another image size."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import ConfigError
from calib_jax.core.resampling import bicubic_weights
from calib_jax.models.config import ClipConfig, VisionConfig

_RESNET_STRIDE = 32


def resize_positions(
    config: ClipConfig, flat: Mapping[str, np.ndarray], image_size: int
) -> tuple[ClipConfig, dict[str, np.ndarray]]:
    """Returns the model for images of another size, and notes the change in the log.

    Args:
        config: The model, which stays as it is.
        flat: Its parameters by path.
        image_size: Side of the images in pixels.

    Raises:
        ConfigError: The tower does not take images of this size.
    """
    old, config = config.vision.image_size, copy.deepcopy(config)
    vision = config.vision
    step = vision.patch_size if isinstance(vision, VisionConfig) else _RESNET_STRIDE
    if image_size % step:
        raise ConfigError(
            f"image_size: got {image_size}, expected a multiple of {step} for this model. "
            f"Set image_size={max(step, round(image_size / step) * step)}."
        )
    vision.image_size = image_size
    config.validate()
    is_vit = isinstance(vision, VisionConfig)
    path = "image/position_embedding" if is_vit else "image/pool/position_embedding"
    side = image_size // step
    before = math.isqrt(len(flat[path]) - 1)
    if side != before:
        logging.getLogger("calib_jax").warning(
            "position embeddings: the checkpoint is of %d pixels, the model takes %d: a grid of "
            "%d x %d, interpolated to %d x %d",
            *(old, image_size, before, before, side, side),
        )
    return config, {**flat, path: resize_grid(flat[path], side)}


def resize_grid(positions: Float[np.ndarray, "n w"], side: int) -> Float[np.ndarray, "m w"]:
    """Returns position embeddings of a square grid of `side` x `side` places.

    The first row, of the class token or the mean, stays; the others are interpolated as
    open_clip's `resize_pos_embed` does: bicubic, antialiased, corners not aligned.
    """
    before = math.isqrt(len(positions) - 1)
    if before == side:
        return positions
    weights = bicubic_weights(before, side)
    grid = positions[1:].astype(np.float64).reshape(before, before, -1)
    resized = np.einsum("ai,bj,ijw->abw", weights, weights, grid, optimize=True)
    rows = np.concatenate([positions[:1], resized.reshape(side * side, -1)])
    return rows.astype(positions.dtype)
