r"""The calibration suite for files of logits and labels, of any framework.

    python -m calib_jax.main --config configs/evaluate_predictions.py --workdir runs/mine \
        --config.reported=clean=test.npz,blurred=blurred.npz --config.calibration=validation.npz

The first file is the in-distribution split, the others are shifts; `predictions.PredictionFiles`
says what a file holds.
"""

from calib_jax.calibrators.ensemble import EnsembleTemperatureScaling
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.runs.predictions import PredictionFiles


def get_config() -> PredictionFiles:
    return PredictionFiles(
        reported="predictions.npz",
        calibrators={
            "temperature": TemperatureScaling(),
            "ensemble": EnsembleTemperatureScaling(),
        },
    )
