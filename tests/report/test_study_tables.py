"""How a difference is written."""

import pytest

from calib_jax.report import study_tables as tables


def make(mean, low=None, high=None):
    return {"mean": mean, "std": None, "num_seeds": 3, "low": low, "high": high}


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("ood_accuracy", make(0.021, 0.004, 0.038), "✓ +2.1 [+0.4, +3.8]"),
        ("ood_ece", make(0.021, 0.004, 0.038), "✗ +2.1 [+0.4, +3.8]"),
        ("ood_ece", make(-0.021, -0.038, -0.004), "✓ -2.1 [-3.8, -0.4]"),
        ("ood_accuracy", make(-0.0001, -0.02, 0.0196), "+0.0 [-2.0, +2.0]"),
        ("ood_accuracy", make(0.1), "+10.0"),
        ("ood_accuracy", make(None), "–"),
    ],
)
def test_difference(key, value, text):
    assert tables.difference(value, key) == text


def test_a_section_for_the_outcome_each_experiment_and_the_papers():
    study = {"experiments": {}, "baselines": [], "calibrated": [], "published": []}
    assert [title for title, _ in tables.sections(study)] == ["In short"]
