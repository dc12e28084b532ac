"""What `import calib_jax` gives, and what it does not load."""

import subprocess
import sys

import pytest

import calib_jax
from calib_jax.evaluation.api import evaluate_predictions


def test_the_suite_for_predictions_is_there():
    assert calib_jax.evaluate_predictions is evaluate_predictions
    with pytest.raises(AttributeError, match="module 'calib_jax' has no attribute 'evaluate'"):
        _ = calib_jax.evaluate


def test_importing_the_package_is_light_and_the_suite_reads_no_data_sets():
    program = (
        "import sys, calib_jax; assert not {'numpy', 'jax'} & set(sys.modules);"
        "calib_jax.evaluate_predictions; assert 'tensorflow_datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
