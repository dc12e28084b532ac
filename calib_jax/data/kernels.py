"""The one loop that NumPy is too slow for; importing it takes half a second."""

import inspect
from collections.abc import Callable

import numba
import numpy as np


def _weighted_rows(pixels: np.ndarray, taps: np.ndarray, result: np.ndarray) -> None:
    """Fills `result[o]` with the weighted sum of rows of `pixels`, as Pillow rounds it.

    Args:
        pixels: Bytes, `uint8 [h, w]`.
        taps: `core.resampling.fixed_point_taps`, `int32 [o, 1 + k]`: the first row, then its weight
            and those of the following, times 2^22.
        result: Where the bytes go, `uint8 [o, w]`.
    """
    height, width = pixels.shape
    sums = np.empty(width, np.int32)
    for o in range(len(taps)):
        first = taps[o, 0]
        sums[:] = 1 << 21
        for tap in range(min(taps.shape[1] - 1, height - first)):
            weight = taps[o, 1 + tap]
            if weight != 0:
                for x in range(width):
                    sums[x] += np.int32(pixels[first + tap, x]) * weight
        for x in range(width):
            result[o, x] = min(max(sums[x] >> 22, 0), 255)


def _compiled(function: Callable[..., None], *, cache: bool) -> Callable[..., None]:
    # Unwrapped of the run-time type checks of the tests, which numba cannot compile.
    return numba.njit(nogil=True, cache=cache)(inspect.unwrap(function))


try:
    weighted_rows = _compiled(_weighted_rows, cache=True)
except RuntimeError:  # no folder that could hold the cache
    weighted_rows = _compiled(_weighted_rows, cache=False)
