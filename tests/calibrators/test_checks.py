import numpy as np
import pytest

from calib_jax.calibrators import checks
from calib_jax.core.errors import ConfigError, DataError

LOGITS = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])


def test_good_arrays_pass():
    checks.check_fitted(LOGITS, 3)
    checks.check_bins_can_be_filled(2, 2)
    checks.check_not_negative(0.0, name="intercept")


def test_logits_of_another_model():
    with pytest.raises(DataError, match="^logits: got 3 classes, expected 4 as in the fit"):
        checks.check_fitted(LOGITS, 4)
    with pytest.raises(DataError, match="^logits: got 0 examples, expected at least 1"):
        checks.check_fitted(LOGITS[:0], 3)


def test_settings():
    for value in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match=rf"^lowest: got {value}, expected a finite number >"):
            checks.check_positive(value, name="lowest")
    for value in (-1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match=rf"^x: got {value}, expected a finite number >= 0"):
            checks.check_not_negative(value, name="x")
    with pytest.raises(ConfigError, match="^num_bins: got 0, expected at least 1"):
        checks.check_bins_can_be_filled(0, 2)
    with pytest.raises(DataError, match="^logits: got 2 examples, expected at least num_bins=3"):
        checks.check_bins_can_be_filled(3, 2)


def test_notes_on_classes():
    labels = np.array([0, 2, 2])
    assert checks.notes_on_classes(labels, num_classes=3) == [
        "1 of 3 classes have no example in the split it was fitted on (1): it has learnt nothing "
        "of them but their absence"
    ]
    (many,) = checks.notes_on_classes(labels, num_classes=9)
    assert "7 of 9 classes" in many and "(1, 3, 4, 5, 6, ...)" in many
    assert checks.notes_on_classes(np.arange(3), num_classes=3) == []
