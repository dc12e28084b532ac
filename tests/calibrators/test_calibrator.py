from calib_jax.calibrators.calibrator import Calibrator, FittedCalibrator
from calib_jax.calibrators.conformal import PredictionSets, SplitConformal
from calib_jax.calibrators.temperature import Temperature, TemperatureScaling


def test_protocols():
    assert isinstance(TemperatureScaling(), Calibrator)
    assert isinstance(Temperature(temperature=2.0), FittedCalibrator)
    sets = PredictionSets(score=SplitConformal().score, threshold=0.5, seed=0)
    assert not isinstance(sets, FittedCalibrator)
