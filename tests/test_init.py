"""What `import calib_jax` gives, and what it does not load."""

import pathlib
import re
import subprocess
import sys

import numpy as np
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


def test_the_readme_evaluates_predictions():
    readme = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()
    example = re.search(r"<!-- evaluate -->\n```python\n(.*?)```", readme, re.DOTALL)[1]
    rng = np.random.default_rng(0)
    labels, validation_labels = rng.integers(0, 3, (2, 60))
    logits, validation_logits = rng.normal(size=(2, 60, 3))
    names = dict(logits=logits, labels=labels, calib_jax=calib_jax)
    names |= dict(validation_logits=validation_logits, validation_labels=validation_labels)
    exec(compile(example, "README.md", "exec"), names)
    record = names["record"]
    assert record == calib_jax.evaluate_predictions(
        logits, labels, calibration=(validation_logits, validation_labels)
    )
    assert "ece_15" in record["intervals"]["reported"]
