import numpy as np
import pytest
import scipy.optimize
import scipy.special

from calib_jax.calibrators import temperature
from calib_jax.calibrators.ensemble import EnsembleTemperatureScaling
from calib_jax.calibrators.temperature import Temperature, TemperatureScaling
from calib_jax.core import numerics
from calib_jax.core.errors import ConfigError

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(400, 5)) * 1.5
LABELS = (TRUE + RNG.gumbel(size=TRUE.shape)).argmax(axis=1)


def nll_by_loop(logits, labels, temperature):
    total = 0.0
    for row, label in zip(logits / temperature, labels, strict=True):
        total += row.max() + np.log(np.exp(row - row.max()).sum()) - row[label]
    return total / len(labels)


def fit(logits, labels=LABELS):
    return TemperatureScaling().fit(logits, labels).temperature


@pytest.mark.parametrize("factor", [1 / 90, 0.3, 1.0, 100.0])
def test_minimises_the_likelihood(factor):
    logits = factor * TRUE + 3
    expected = scipy.optimize.minimize_scalar(
        lambda log_t: nll_by_loop(logits, LABELS, np.exp(log_t)),
        bracket=(np.log(factor), np.log(factor) + 0.1),
        options={"xtol": 1e-9},
    )
    assert fit(logits) == pytest.approx(np.exp(expected.x), rel=1e-6)


def test_exact():
    # The slope of the likelihood changes its sign within a relative 1e-10 of the temperature.
    temperature = fit(7 * TRUE)

    def slope(scale):
        logits = 7 * TRUE * scale
        own = 7 * TRUE[np.arange(len(LABELS)), LABELS]
        return ((numerics.softmax(logits) * 7 * TRUE).sum(axis=1) - own).mean()

    assert slope((1 - 1e-10) / temperature) < 0 < slope((1 + 1e-10) / temperature)


def test_scales_with_the_logits():
    planted = fit(TRUE)
    assert planted == pytest.approx(1, abs=0.15)  # the labels are drawn at temperature 1
    for factor in (1e-2, 0.5, 8, 300):
        assert fit(factor * TRUE) == pytest.approx(factor * planted, rel=1e-10)
    assert fit(TRUE - 40) == pytest.approx(planted, rel=1e-10)


def test_closed_form_of_two_classes():
    # Logits 0 and 1, right in 3 of 4: softmax at 1/T = log 3.
    logits = np.tile([0.0, 1.0], (4, 1))
    assert fit(logits, np.array([1, 1, 1, 0])) == pytest.approx(1 / np.log(3), rel=1e-12)


def test_blocks_of_rows(monkeypatch):
    expected = fit(TRUE)
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", 35)
    assert fit(TRUE) == pytest.approx(expected, rel=1e-12)


def test_minima_at_infinity_end_at_the_bounds():
    assert fit(TRUE, TRUE.argmax(axis=1)) == pytest.approx(1e-3, rel=1e-12)
    assert fit(TRUE, TRUE.argmin(axis=1)) == pytest.approx(1e3, rel=1e-12)
    assert fit(np.ones_like(TRUE)) == 1
    bounded = TemperatureScaling(lowest=2.0, highest=3.0)
    assert bounded.fit(TRUE, LABELS).temperature == pytest.approx(2)
    assert bounded.fit(100 * TRUE, LABELS).temperature == pytest.approx(3)


def test_notes_on_the_bounds():
    for labels, expected in (
        (TRUE.argmax(axis=1), "the temperature ended at its lowest, 0.001, as where the largest"),
        (TRUE.argmin(axis=1), "the temperature ended at its highest, 1000, as where the logits"),
    ):
        for config in (TemperatureScaling(), EnsembleTemperatureScaling()):
            (note,) = config.notes(config.fit(TRUE, labels), labels)
            assert note.startswith(expected)
    assert TemperatureScaling().notes(Temperature(temperature=2.0), LABELS) == []


def test_applied():
    fitted = Temperature(temperature=4.0)
    np.testing.assert_array_equal(fitted.logits(TRUE.astype(np.float32)), np.float32(TRUE) / 4.0)
    np.testing.assert_allclose(fitted.probs(TRUE), numerics.softmax(TRUE / 4))


def test_bad_bounds():
    with pytest.raises(ConfigError, match="^lowest: got 0.0, expected a finite number > 0"):
        TemperatureScaling(lowest=0.0).fit(TRUE, LABELS)
    for highest in (0.5, np.inf):
        with pytest.raises(ConfigError, match=rf"^highest: got {highest}, .* >= lowest=1"):
            TemperatureScaling(lowest=1.0, highest=highest).fit(TRUE, LABELS)


@pytest.mark.parametrize("gap", [1e-6, 0.2, 1.0, 9.0, 100.0, 800.0])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_split_that_is_all_right_ends_at_the_lowest(gap, num_classes):
    """Whatever the margin; and the note says why."""
    labels = np.arange(50) % num_classes
    logits = gap * np.eye(num_classes)[labels]
    for lowest in (1e-3, 0.5):
        config = TemperatureScaling(lowest=lowest)
        fitted = config.fit(logits, labels)
        assert fitted.temperature == pytest.approx(lowest, rel=1e-12)
        (note,) = config.notes(fitted, labels)
        assert "the largest logit is right in every example" in note


@pytest.mark.parametrize("margin", [1e-3, 1.0, 30.0])
def test_one_mistake_among_many_large_margins(margin):
    """The slope is zero there; by bisection, in the scale's logarithm."""
    logits = np.array([[9.0, 0.0]] * 1000 + [[0.0, margin]])
    labels = np.zeros(1001, int)

    def slope(scale):  # times 1001, by hand
        return -9000 * scipy.special.expit(-9 * scale) + margin * scipy.special.expit(
            margin * scale
        )

    expected = scipy.optimize.brentq(slope, 1e-3, 1e3, xtol=1e-14, rtol=1e-14)
    assert 1 / fit(logits, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("num_classes", "scale"), [(2, 3.0), (100, 5.0), (100, 100.0)])
def test_few_passes_over_the_logits(monkeypatch, num_classes, scale, seed):
    """Rounding, where steps stop shrinking, does not start the bisection over: that took 50."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3000, num_classes))
    labels = (logits + 0.3 * rng.gumbel(size=logits.shape)).argmax(axis=1)
    passes, derivatives = [], temperature._derivatives
    monkeypatch.setattr(
        temperature, "_derivatives", lambda *args: passes.append(1) or derivatives(*args)
    )
    fit((scale * logits).astype(np.float32), labels)
    assert len(passes) <= 16
