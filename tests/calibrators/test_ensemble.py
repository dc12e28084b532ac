import numpy as np
import pytest

from calib_jax.calibrators.ensemble import EnsembleTemperatureScaling, TemperatureEnsemble
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core import numerics


def draw(num_examples, seed, *, noise):
    """Logits three times too large; a share of the labels is uniform noise."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(num_examples, 5)) * 2
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    random = rng.integers(0, 5, num_examples)
    return 3 * true, np.where(rng.random(num_examples) < noise, random, labels)


def parts(fitted, logits):
    tempered = numerics.softmax(logits / fitted.temperature)
    raw = numerics.softmax(logits)
    return np.stack([tempered, raw, np.full_like(raw, 1 / logits.shape[1])])


def test_applied():
    logits, _ = draw(6, 0, noise=0)
    fitted = TemperatureEnsemble(temperature=3.0, weights=np.array([0.5, 0.2, 0.3]))
    expected = np.einsum("k,knc->nc", fitted.weights, parts(fitted, logits))
    np.testing.assert_allclose(fitted.probs(logits), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_weights_are_optimal(seed, noise):
    logits, labels = draw(150, seed, noise=noise)
    fitted = EnsembleTemperatureScaling().fit(logits, labels)
    assert fitted.temperature == TemperatureScaling().fit(logits, labels).temperature
    assert (fitted.weights >= 0).all()
    assert fitted.weights.sum() == pytest.approx(1, abs=1e-12)
    # Cover 1984: the likelihood is within the logarithm of this maximum of its best.
    own = parts(fitted, logits)[:, np.arange(len(labels)), labels]
    ratios = (own / (fitted.weights @ own)).mean(axis=1)
    assert np.log(ratios.max()) < 1e-5


def test_planted_noise_becomes_the_uniform_weight():
    logits, labels = draw(4000, 0, noise=0.4)
    raw = EnsembleTemperatureScaling(temperature=TemperatureScaling(lowest=3.0, highest=3.0))
    assert raw.fit(logits, labels).weights == pytest.approx([0.6, 0, 0.4], abs=0.05)


def test_labels_of_probability_zero():
    logits = np.array([[0.0, 5000.0], [0.0, 5000.0], [0.0, 5000.0]])
    fitted = EnsembleTemperatureScaling().fit(logits, np.array([1, 1, 0]))
    assert np.isfinite(np.log(fitted.probs(logits))).all()
    assert fitted.probs(logits)[0, 1] == pytest.approx(2 / 3, abs=1e-4)
