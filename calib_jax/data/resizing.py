"""Pillow's bicubic resize of 8-bit images, bit by bit, of no more than what a crop keeps.

Pillow resizes the columns, rounds to 0..255, and then resizes the rows, in whole numbers
(`libImaging/Resample.c`); so does this, seven times as fast.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import cv2
import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from calib_jax.core.resampling import fixed_point_taps

Pixels = UInt8[np.ndarray, "h w 3"]

_SUPPORT = 2  # of the bicubic kernel, in output pixels where an image shrinks


@dataclasses.dataclass(frozen=True)
class Axis:
    """Rows or columns of an image: `stored` are resized to `resized`, `size` of them kept.

    Those kept are the middle ones, with torchvision's rounding.
    """

    stored: int
    resized: int
    size: int

    @property
    def kept(self) -> slice:
        """The resized ones in the result."""
        start = round((self.resized - self.size) / 2)
        return slice(start, start + self.size)

    @functools.cached_property
    def needed(self) -> slice:
        """The stored ones that those kept are computed from."""
        support = _SUPPORT * max(self._scale, 1.0)
        low = math.floor(self.kept.start * self._scale - support)
        high = math.ceil(self.kept.stop * self._scale + support)
        return slice(max(low, 0), min(high, self.stored))

    @property
    def num_needed(self) -> int:
        """How many these are."""
        return self.needed.stop - self.needed.start

    def taps(self, num_taps: int = 0) -> Int32[np.ndarray, "size k"]:
        """`fixed_point_taps` of those kept, counted from the first one needed.

        Args:
            num_taps: Weights in a row; 0 for as many as there can be.
        """
        return _taps(self, num_taps or 2 * math.ceil(_SUPPORT * max(self._scale, 1.0)) + 1)

    @property
    def _scale(self) -> float:
        return self.stored / self.resized


# Photographs come in few sizes, and so do random windows of them.
@functools.lru_cache(maxsize=2048)
def _taps(axis: Axis, num_taps: int) -> Int32[np.ndarray, "size k"]:
    return fixed_point_taps(
        axis.stored, axis.resized, axis.kept, offset=axis.needed.start, num_taps=num_taps
    )


def view_axes(pixels: Pixels, size: int) -> tuple[Axis, Axis]:
    """Rows and columns of CLIP's evaluation view: the shorter side `size`, the centre kept."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    return (
        Axis(height, size * height // shorter, size),
        Axis(width, size * width // shorter, size),
    )


def may_start_with_rows(rows: Axis, columns: Axis) -> bool:
    """Whether Pillow 13 resizes the columns last: it rounds in between, so the order shows."""
    shrinks = rows.stored - rows.resized
    return shrinks > max(0, 2 * (columns.stored - columns.resized))


def resize_and_crop(pixels: Pixels, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """CLIP's evaluation view: the shorter side resized to `size` (bicubic), the centre cut out.

    Equal to what the installed Pillow makes of it, bit by bit.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    rows, columns = view_axes(pixels, size)
    if may_start_with_rows(rows, columns):
        image = Image.fromarray(pixels)
        resized = image.resize((columns.resized, rows.resized), Image.Resampling.BICUBIC)
        return np.asarray(resized)[rows.kept, columns.kept]
    return resize(pixels, rows, columns)


def resize(pixels: Pixels, rows: Axis, columns: Axis) -> UInt8[np.ndarray, "i j 3"]:
    """The pixels that both axes keep; the columns are resized first, as Pillow 12 does."""
    from calib_jax.data.kernels import weighted_rows  # small images need no resize, and no kernel

    # Neighbours in memory are summed alike: hence columns as rows, and back.
    upright = cv2.transpose(pixels[rows.needed, columns.needed])
    narrow = np.empty((columns.size, rows.num_needed * 3), np.uint8)
    weighted_rows(upright.reshape(columns.num_needed, -1), columns.taps(), narrow)
    level = cv2.transpose(narrow.reshape(columns.size, rows.num_needed, 3))
    result = np.empty((rows.size, columns.size * 3), np.uint8)
    weighted_rows(level.reshape(rows.num_needed, -1), rows.taps(), result)
    return result.reshape(rows.size, columns.size, 3)
