"""What a number is called and how it is shown; what a split's metrics share is made once."""

import numpy as np
import pytest

from calib_jax.metrics import selective
from calib_jax.metrics.metric import Quantity, SplitView
from calib_jax.metrics.outcomes import of_logits


@pytest.mark.parametrize(
    ("unit", "scale", "decimals"),
    [("fraction", 100.0, 1), ("points", 100.0, 1), ("nats", 1.0, 3), ("classes", 1.0, 3)],
)
def test_numbers_are_shown_in_their_unit(unit, scale, decimals):
    quantity = Quantity(title="x", direction="lower", unit=unit)
    assert (quantity.scale, quantity.shown_decimals) == (scale, decimals)
    assert Quantity(title="x", direction="lower", unit=unit, decimals=0).shown_decimals == 0


@pytest.mark.parametrize(
    ("direction", "heading", "sign"),
    [("higher", "x ↑", 1), ("lower", "x ↓", -1), ("neither", "x", 0)],
)
def test_the_better_side(direction, heading, sign):
    quantity = Quantity(title="x", direction=direction)
    assert (quantity.heading, quantity.sign) == (heading, sign)


def test_a_curve_that_several_metrics_read_is_made_once(monkeypatch):
    made, make = [], selective.risk_coverage
    monkeypatch.setattr(selective, "risk_coverage", lambda *a: made.append(1) or make(*a))
    rng = np.random.default_rng(0)
    outcomes = of_logits(rng.normal(size=(20, 3)), rng.integers(0, 3, 20), num_bins=5)
    view = SplitView(outcomes=outcomes, num_bins=5)
    assert view.curve is view.curve and made == [1]
    assert view.curve.risk[-1] == pytest.approx(1 - outcomes.correct.mean())
