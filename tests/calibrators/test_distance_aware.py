import numpy as np
import pytest

from calib_jax.calibrators.calibrator import Calibrator
from calib_jax.calibrators.distance_aware import DistanceAwareCalibration, DistanceAwareScale
from calib_jax.core import numerics
from calib_jax.core.errors import ConfigError, DataError


def unit(seed, num_classes):
    rows = np.random.default_rng(seed).normal(size=(num_classes, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


EMBEDDINGS = {
    "zero_shot": unit(0, 7),
    "zero_shot_base": unit(1, 9),
    "tuned": unit(2, 7),
    "tuned_base": unit(3, 9),
}


def factors_by_loop(zero_shot, zero_shot_base, tuned, tuned_base, num_neighbors):
    result = []
    for before, after in zip(zero_shot, tuned, strict=True):
        near = sorted(np.linalg.norm(before - base) for base in zero_shot_base)
        far = sorted(np.linalg.norm(after - base) for base in tuned_base)
        if far[0] < 0.05:
            result.append(1.0)
        else:
            before_score = np.exp(-np.mean(near[:num_neighbors]))
            result.append(np.exp(-np.mean(far[:num_neighbors])) / before_score)
    return result


@pytest.mark.parametrize("num_neighbors", [1, 5, 9])
def test_factors_by_loop(num_neighbors):
    arrays = dict(EMBEDDINGS)
    arrays["tuned"] = arrays["tuned"].copy()
    arrays["tuned"][4] = arrays["tuned_base"][0] + 0.01  # a class that was trained
    fitted = DistanceAwareCalibration(num_neighbors=num_neighbors).of_texts(**arrays)
    assert fitted.factor[4] == 1
    assert (fitted.factor != 1).sum() == 6
    np.testing.assert_allclose(
        fitted.factor, factors_by_loop(**arrays, num_neighbors=num_neighbors)
    )


def test_nothing_moved_nothing_scaled():
    arrays = EMBEDDINGS | {
        "tuned": EMBEDDINGS["zero_shot"],
        "tuned_base": EMBEDDINGS["zero_shot_base"],
    }
    np.testing.assert_allclose(DistanceAwareCalibration().of_texts(**arrays).factor, 1, rtol=1e-12)


def test_texts_that_moved_away_lose_confidence():
    arrays = EMBEDDINGS | {"tuned": 3 * EMBEDDINGS["zero_shot"]}
    arrays["tuned_base"] = EMBEDDINGS["zero_shot_base"]
    assert (DistanceAwareCalibration().of_texts(**arrays).factor < 1).all()


def test_applied():
    logits = np.random.default_rng(4).normal(size=(20, 3)) * 4
    fitted = DistanceAwareScale(factor=np.array([0.5, 1.0, 2.0]))
    expected = np.array([row * fitted.factor[row.argmax()] for row in logits])
    np.testing.assert_allclose(fitted.logits(logits), expected)
    np.testing.assert_allclose(fitted.probs(logits), numerics.softmax(expected))
    with pytest.raises(DataError, match="got 2 classes, expected 3 as in the fit"):
        fitted.logits(logits[:, :2])


def test_errors():
    with pytest.raises(ConfigError, match="^num_neighbors: got 0, expected at least 1"):
        DistanceAwareCalibration(num_neighbors=0).of_texts(**EMBEDDINGS)
    with pytest.raises(ConfigError, match="^base_distance: got -0.1, expected a finite number >="):
        DistanceAwareCalibration(base_distance=-0.1).of_texts(**EMBEDDINGS)
    with pytest.raises(DataError, match="^tuned_base: got 9 classes, .* num_neighbors=10"):
        DistanceAwareCalibration(num_neighbors=10).of_texts(**EMBEDDINGS)
    for name in EMBEDDINGS:
        bad = EMBEDDINGS[name].copy()
        bad[1, 2] = np.nan
        with pytest.raises(DataError, match=rf"^{name}: got nan at \[1, 2\], expected finite"):
            DistanceAwareCalibration().of_texts(**(EMBEDDINGS | {name: bad}))


def test_it_is_no_calibrator_of_labelled_logits():
    """So a config that lists it is refused: what `of_texts` gives is to be listed."""
    assert not isinstance(DistanceAwareCalibration(), Calibrator)
