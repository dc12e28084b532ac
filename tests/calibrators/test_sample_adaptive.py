import inspect

import numpy as np
import pytest

from calib_jax.calibrators.sample_adaptive import SampleAdaptiveScaling
from calib_jax.core.errors import DataError

scaled_to = SampleAdaptiveScaling().scaled
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20, 5)) * 10
ZERO_SHOT = RNG.normal(size=(20, 5)) + 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_loop(dtype):
    logits, zero_shot = LOGITS.astype(dtype), ZERO_SHOT.astype(dtype)
    before = logits.copy()
    scaled = scaled_to(logits, zero_shot)
    assert scaled.dtype == np.float64
    np.testing.assert_array_equal(logits, before)
    for row, z, s in zip(np.float64(logits), np.float64(zero_shot), scaled, strict=True):
        expected = (row - row.min()) / (row.max() - row.min()) * (z.max() - z.min()) + z.min()
        np.testing.assert_allclose(s, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)
        assert s.argmax() == row.argmax()


def test_the_same_model_stays():
    np.testing.assert_allclose(scaled_to(ZERO_SHOT, ZERO_SHOT), ZERO_SHOT, rtol=1e-12)


def test_constant_rows_stay_constant():
    constant = np.ones((2, 5))
    assert (np.ptp(scaled_to(constant, ZERO_SHOT[:2]), axis=1) == 0).all()
    assert (scaled_to(LOGITS[:2], constant) == 1).all()


def test_errors():
    bad = ZERO_SHOT.copy()
    bad[0, 3] = np.inf
    with pytest.raises(DataError, match=r"^zero_shot: got inf at \[0, 3\], expected finite"):
        scaled_to(LOGITS, bad)
    with pytest.raises(DataError, match="^logits: got 0 examples, expected at least 1"):
        scaled_to(LOGITS[:0], ZERO_SHOT[:0])
    # Beneath the run-time shape checks of the tests.
    unchecked = inspect.unwrap(SampleAdaptiveScaling.scaled)
    with pytest.raises(DataError, match=r"^zero_shot: got shape \(20, 4\), expected \(20, 5\)"):
        unchecked(SampleAdaptiveScaling(), LOGITS, ZERO_SHOT[:, :4])
