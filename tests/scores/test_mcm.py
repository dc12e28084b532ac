import numpy as np
import pytest

from calib_jax.core import errors
from calib_jax.scores.mcm import mcm
from calib_jax.scores.msp import msp


def cosines(images, texts):
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    return images @ texts.T


SIMILARITIES = cosines(*np.random.default_rng(0).normal(size=(2, 9, 16)))


@pytest.mark.parametrize("temperature", ["1", "0.01"])
def test_golden(golden_dir, temperature):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    similarities = cosines(golden["test_features"], golden["text_features"])
    scores = mcm(similarities, temperature=float(temperature))
    np.testing.assert_allclose(scores, golden[f"score/mcm_t{temperature}"], rtol=0, atol=1e-6)


def test_is_msp_on_the_scaled_logits():
    np.testing.assert_allclose(mcm(SIMILARITIES, temperature=0.01), msp(100 * SIMILARITIES))
    np.testing.assert_allclose(mcm(SIMILARITIES), msp(SIMILARITIES))


def test_bounds():
    np.testing.assert_allclose(mcm(np.full((1, 5), 0.2)), 0.2)
    assert mcm(np.array([[1.0, -1.0]]), temperature=1e-4) == 1.0


def test_bad_temperature():
    with pytest.raises(errors.ConfigError, match="temperature: got -1.0, expected a finite number"):
        mcm(SIMILARITIES, temperature=-1.0)
