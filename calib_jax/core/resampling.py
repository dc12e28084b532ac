"""Separable resampling as a matrix for each axis: Pillow's and torch's antialiased bicubic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

from calib_jax.core.errors import DataError

_PRECISION = 22  # bits behind the point of Pillow's coefficients
_HALF = _PRECISION // 2


def bicubic_weights(num_in: int, num_out: int) -> Float[np.ndarray, "o i"]:
    """Returns the float64 matrix that resizes an axis of `num_in` samples to `num_out`.

    Rows add up to 1. These are the coefficients of Pillow's `Image.BICUBIC` and of torch's
    `interpolate(mode="bicubic", antialias=True, align_corners=False)`. They are Keys' cubic
    (1981) with a = -0.5, widened by `num_in / num_out` where that shrinks. At the edges it is
    cut off and normalised again.

    Raises:
        DataError: A size is below 1.
    """
    if min(num_in, num_out) < 1:
        raise DataError(
            f"image sizes: got {num_in} and {num_out}, expected at least 1 pixel. Raise them."
        )
    scale = num_in / num_out
    centers = (np.arange(num_out) + 0.5) * scale
    distances = (np.arange(num_in) + 0.5)[None] - centers[:, None]
    weights = _keys_cubic(distances / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def _keys_cubic(x: Float[np.ndarray, "o i"]) -> Float[np.ndarray, "o i"]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def fixed_point_taps(
    num_in: int, num_out: int, kept: slice, *, offset: int = 0, num_taps: int
) -> Int32[np.ndarray, "o 1+{num_taps}"]:
    """Returns Pillow's `Image.BICUBIC` of 8-bit pixels as whole numbers, one row an output.

    A row is the first input that counts and the coefficients from there on, times 2^22 and rounded
    (`libImaging/Resample.c`); what is left of the `num_taps` is zero.

    Args:
        num_in: Inputs in all.
        num_out: Outputs in all.
        kept: The outputs that get a row.
        offset: Inputs are counted from this one.
        num_taps: `2 * ceil(2 * max(num_in / num_out, 1)) + 1` are always enough.

    Raises:
        ValueError: There are too few taps.
    """
    scale = num_in / num_out
    widening = max(scale, 1.0)
    centers = (np.arange(kept.start, kept.stop) + 0.5) * scale
    first = np.maximum(centers - 2.0 * widening + 0.5, 0.0).astype(np.int32)
    last = np.minimum((centers + 2.0 * widening + 0.5).astype(np.int32), num_in)
    if (longest := int((last - first).max())) > num_taps:
        raise ValueError(
            f"fixed_point_taps: got num_taps={num_taps}, expected at least {longest} to resize "
            f"{num_in} to {num_out}. Raise it."
        )
    inputs = first[:, None] + np.arange(num_taps)
    x = np.abs((inputs - centers[:, None] + 0.5) * (1.0 / widening))
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    weights = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    weights = np.where(inputs < last[:, None], weights, 0.0)
    scaled = weights / weights.sum(axis=1, keepdims=True) * 2.0**_PRECISION
    coefficients = np.trunc(scaled + np.copysign(0.5, scaled))  # halves away from zero
    return np.concatenate([first[:, None] - offset, coefficients], axis=1).astype(np.int32)


def resample(
    canvas: UInt8[Array | np.ndarray, "b s s 3"], taps: Int32[Array | np.ndarray, "b 2 o k"]
) -> UInt8[Array, "b o o 3"]:
    """Returns what Pillow's `Image.BICUBIC` makes of each canvas, bit by bit.

    As Pillow does, it resizes the columns, rounds to 0..255, and then resizes the rows, in whole
    numbers.

    Args:
        canvas: Pixels in 0..255.
        taps: `fixed_point_taps` of rows and of columns. Zeros give a black image.
    """
    rows, columns = (_dense(jnp.asarray(taps[:, axis]), canvas.shape[1]) for axis in (0, 1))
    wide = _weighted("bhwc,bow->bhoc", jnp.asarray(canvas), columns)
    return _weighted("bhoc,bph->bpoc", wide, rows)


def _dense(taps: Int32[Array, "b o k"], num_in: int) -> Int32[Array, "b o i"]:
    first, inputs = taps[..., :1], jnp.arange(num_in)
    dense = jnp.zeros((*taps.shape[:2], num_in), jnp.int32)
    for tap in range(taps.shape[-1] - 1):
        dense += jnp.where(inputs == first + tap, taps[..., tap + 1, None], 0)
    return dense


def _weighted(
    subscripts: str, pixels: UInt8[Array, "b h w 3"], weights: Int32[Array, "b o i"]
) -> UInt8[Array, "b y x 3"]:
    """The sums of an axis, rounded to 0..255 with halves up.

    The weights go in two halves, whose sums float32 holds exactly in any order; products in
    bfloat16 or TF32 would not.
    """
    high, low = (
        jnp.einsum(
            subscripts,
            pixels.astype(jnp.float32),
            half.astype(jnp.float32),
            precision=jax.lax.Precision.HIGHEST,
        ).astype(jnp.int32)
        for half in (weights >> _HALF, weights & (2**_HALF - 1))
    )
    total = (high << _HALF) + low + 2 ** (_PRECISION - 1)
    return jnp.clip(total >> _PRECISION, 0, 255).astype(jnp.uint8)
