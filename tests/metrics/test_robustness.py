import numpy as np
import pytest
import scipy.stats

from calib_jax.core import errors
from calib_jax.metrics import robustness

ID = np.array([0.55, 0.63, 0.7, 0.76, 0.8, 0.84])
OOD = np.array([0.3, 0.41, 0.44, 0.55, 0.57, 0.66])


@pytest.mark.parametrize(("higher_is_better", "worst"), [(True, "a"), (False, "s")])
def test_mean_and_worst(higher_is_better, worst):
    values = {"v2": 0.6, "a": 0.2, "s": 0.7}
    summary = robustness.mean_and_worst(values, higher_is_better=higher_is_better)
    assert summary == (pytest.approx(0.5), values[worst], worst)


def test_mean_and_worst_of_one_and_of_equals():
    assert robustness.mean_and_worst({"a": 1.0}, higher_is_better=True) == (1, 1, "a")
    equal = {"a": 0.5, "b": 0.5}
    assert robustness.mean_and_worst(equal, higher_is_better=False).worst_name == "a"


@pytest.mark.parametrize(
    ("scale", "forward", "backward"),
    [
        ("logit", lambda p: np.log(p / (1 - p)), lambda x: 1 / (1 + np.exp(-x))),
        ("probit", scipy.stats.norm.ppf, scipy.stats.norm.cdf),
    ],
)
def test_trend_is_the_regression_on_the_scale(scale, forward, backward):
    trend = robustness.accuracy_trend(ID, OOD, scale=scale)
    expected = scipy.stats.linregress(forward(ID), forward(OOD))
    assert trend.slope == pytest.approx(expected.slope, rel=1e-12)
    assert trend.intercept == pytest.approx(expected.intercept, rel=1e-12)
    models = np.array([0.6, 0.9])
    line = backward(expected.intercept + expected.slope * forward(models))
    np.testing.assert_allclose(trend.ood_accuracy(models), line, rtol=1e-12)
    rho = robustness.effective_robustness(models, line + 0.05, trend=trend)
    np.testing.assert_allclose(rho, 0.05, rtol=1e-9)


def test_models_on_the_line_have_none():
    # Odds that fall by a half at every ID accuracy: slope 1, intercept -log 2.
    ood = (ID / (1 - ID) / 2) / (1 + ID / (1 - ID) / 2)
    trend = robustness.accuracy_trend(ID, ood)
    assert trend.slope == pytest.approx(1)
    assert trend.intercept == pytest.approx(-np.log(2))
    rho = robustness.effective_robustness(ID, ood, trend=trend)
    np.testing.assert_allclose(rho, 0, atol=1e-12)


def test_bad_input(monkeypatch):
    with pytest.raises(errors.DataError, match="values: got no shift, expected at least 1"):
        robustness.mean_and_worst({}, higher_is_better=True)
    with pytest.raises(errors.DataError, match="values: got nan for 'r', expected a finite"):
        robustness.mean_and_worst({"a": 0.1, "r": float("nan")}, higher_is_better=True)
    for wrong in (0.0, 1.0, 76.1, np.nan):
        with pytest.raises(errors.DataError, match=rf"id_accuracy: got {wrong} at \[1\], expec"):
            robustness.accuracy_trend(np.array([0.5, wrong]), OOD[:2])
    with pytest.raises(errors.DataError, match="id_accuracy: got 0.5 for all of 2 baseline"):
        robustness.accuracy_trend(np.full(2, 0.5), OOD[:2])
    with pytest.raises(errors.DataError, match="id_accuracy: got 0.55 for all of 1 baseline"):
        robustness.accuracy_trend(ID[:1], OOD[:1])
    trend = robustness.accuracy_trend(ID, OOD)
    for wrong in (-0.1, 70.0, np.nan):
        message = rf"ood_accuracy: got {wrong} at \[0\], expected a fraction from 0 to 1"
        with pytest.raises(errors.DataError, match=message):
            robustness.effective_robustness(ID[:1], np.full(1, wrong), trend=trend)
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.ConfigError, match="scale: got 'log', expected 'logit' or 'probit'"):
        robustness.accuracy_trend(ID, OOD, scale="log")
    with pytest.raises(errors.DataError, match=r"ood_accuracy: got shape \(5,\), expected \(6,\)"):
        robustness.accuracy_trend(ID, OOD[1:])


@pytest.mark.parametrize("scale", ["logit", "probit"])
def test_the_line_has_limits_and_takes_lists(scale):
    trend = robustness.accuracy_trend(ID.tolist(), OOD.tolist(), scale=scale)
    assert trend == robustness.accuracy_trend(ID, OOD, scale=scale) and trend.slope > 0
    ends = np.array([0.0, 1.0])
    np.testing.assert_array_equal(trend.ood_accuracy(ends), ends)
    near = trend.ood_accuracy(np.array([1e-12, 1 - 1e-12]))
    np.testing.assert_allclose(near, ends, atol=1e-3)
    np.testing.assert_array_equal(
        robustness.effective_robustness(ends, np.array([0.25, 0.25]), trend=trend), [0.25, -0.75]
    )
    flat = robustness.Trend(slope=0.0, intercept=0.0, scale=scale)
    np.testing.assert_array_equal(flat.ood_accuracy(ends), [0.5, 0.5])
