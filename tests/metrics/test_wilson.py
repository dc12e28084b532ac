"""The Wilson interval against the score test that it inverts."""

import statistics

import numpy as np
import pytest

from calib_jax.metrics.wilson import wilson_interval


@pytest.mark.parametrize("count", [1, 7, 400])
def test_wilsons_interval_holds_what_the_score_test_accepts(count):
    """Its ends are where `|share - p| = z sqrt(p (1 - p) / n)`."""
    z = statistics.NormalDist().inv_cdf(0.95)
    shares = np.array([0.0, 2 / 7, 1.0, np.nan])
    counts = np.array([count, count, count, 0])
    low, high = wilson_interval(shares, counts, level=0.9)
    for end in (low, high):
        assert np.isnan(end[3])
        bound = z**2 * end[:3] * (1 - end[:3]) / count
        np.testing.assert_allclose((shares[:3] - end[:3]) ** 2, bound, atol=1e-12)
    assert low[0] == 0.0 and high[2] == 1.0
