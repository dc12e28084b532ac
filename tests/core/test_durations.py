"""Durations and paces as people read them."""

import pytest

from calib_jax.core.durations import clock_time, pace


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, "0:00:00"), (59.6, "0:01:00"), (90_061.0, "25:01:01")]
)
def test_durations(seconds, expected):
    assert clock_time(seconds) == expected


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(3.4, "3.4 steps/s"), (1234.5, "1,234 steps/s"), (1.0, "1 steps/s"), (0.4, "2.5 s/step")],
)
def test_paces(rate, expected):
    assert pace(rate, "step") == expected
