import numpy as np
import pytest

from calib_jax.core import errors
from calib_jax.scores.energy import energy

LOGITS = np.random.default_rng(0).normal(size=(9, 4))


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    np.testing.assert_allclose(
        energy(golden["test_logits"]), golden["score/energy"], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_closed_form(temperature):
    expected = temperature * np.log(np.exp(LOGITS / temperature).sum(axis=1))
    np.testing.assert_allclose(energy(LOGITS, temperature=temperature), expected, rtol=1e-12)


def test_low_temperature_is_the_maximum_logit():
    np.testing.assert_allclose(energy(LOGITS, temperature=1e-3), LOGITS.max(axis=1), atol=1e-3)


def test_bad_temperature():
    with pytest.raises(errors.ConfigError, match="temperature: got 0.0, expected a finite number"):
        energy(LOGITS, temperature=0.0)
