import numpy as np
import pytest

from calib_jax.calibrators import checks
from calib_jax.calibrators.conformal import SplitConformal
from calib_jax.calibrators.distance_aware import DistanceAwareCalibration
from calib_jax.calibrators.ensemble import EnsembleTemperatureScaling
from calib_jax.calibrators.histogram import OneVsRestBinning
from calib_jax.calibrators.scaling import DirichletScaling, MatrixScaling, VectorScaling
from calib_jax.calibrators.temperature import TemperatureScaling
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
        checks.check_count(0, name="num_bins")
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


def test_settings_are_checked_before_the_fit():
    """Those of calibrators that say what is wrong with themselves, and of no other."""

    class Plain:
        lowest = -1.0

    good = {"t": TemperatureScaling(), "e": EnsembleTemperatureScaling(), "plain": Plain()}
    checks.check_settings(good, where="calibrators")
    for bad, message in (
        (TemperatureScaling(lowest=-1.0), r"lowest: got -1\.0, expected a finite number > 0"),
        (
            TemperatureScaling(highest=1e-9),
            r"highest: got 1e-09, expected a finite number >= lowest",
        ),
        (
            EnsembleTemperatureScaling(temperature=TemperatureScaling(lowest=0.0)),
            r"temperature\.lowest: got 0\.0, expected",
        ),
        (VectorScaling(intercept=-1.0), r"intercept: got -1\.0, expected a finite number >= 0"),
        (MatrixScaling(max_iterations=0), r"max_iterations: got 0, expected at least 1"),
        (DirichletScaling(off_diagonal=np.inf), r"off_diagonal: got inf, expected a finite"),
        (OneVsRestBinning(num_bins=0), r"num_bins: got 0, expected at least 1"),
        (DistanceAwareCalibration(num_neighbors=0), r"num_neighbors: got 0, expected at least 1"),
        (SplitConformal(seed=-1), r"seed: got -1, expected a finite number >= 0"),
    ):
        with pytest.raises(ConfigError, match=rf"^evaluation\.calibrators\.x\.{message}"):
            checks.check_settings(good | {"x": bad}, where="evaluation.calibrators")
