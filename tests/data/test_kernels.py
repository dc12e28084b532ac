import importlib

import numba
import numpy as np

from calib_jax.data import kernels
from calib_jax.data.kernels import weighted_rows


def test_weighted_rows_by_loop():
    """Weights of both signs, sums beyond 0..255, and taps that end at the last row."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 5), np.uint8)
    taps = np.zeros((4, 4), np.int32)
    taps[:, 0] = [0, 3, 7, 8]
    taps[:, 1:] = rng.integers(-(2**21), 2**22, (4, 3))
    taps[2, 3] = taps[3, 2] = taps[3, 3] = 0  # there is no tenth row
    result = np.empty((4, 5), np.uint8)
    weighted_rows(pixels, taps, result)
    expected = np.empty((4, 5), np.uint8)
    for o in range(4):
        for x in range(5):
            total = sum(
                int(pixels[taps[o, 0] + k, x]) * int(taps[o, 1 + k])
                for k in range(3)
                if taps[o, 1 + k]
            )
            expected[o, x] = min(max(int(np.floor(total / 2**22 + 0.5)), 0), 255)
    np.testing.assert_array_equal(result, expected)
    assert len(np.unique(expected)) > 5


def test_without_a_folder_for_its_cache_it_is_compiled_anew(monkeypatch):
    """As in a read-only installation of a user without a home."""
    original = numba.njit

    def without_cache(*, cache, **options):
        if cache:
            raise RuntimeError("cannot cache function '_weighted_rows': no locator available")
        return original(cache=cache, **options)

    monkeypatch.setattr(numba, "njit", without_cache)
    module = importlib.reload(kernels)
    result = np.empty((1, 2), np.uint8)
    module.weighted_rows(np.array([[3, 9]], np.uint8), np.array([[0, 2**22]], np.int32), result)
    np.testing.assert_array_equal(result, [[3, 9]])
    monkeypatch.undo()
    importlib.reload(kernels)
