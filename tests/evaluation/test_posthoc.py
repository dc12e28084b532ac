"""Calibrators and sets fitted on one split, tried on others."""

import numpy as np
import pytest
import scipy.special

from calib_jax.calibrators.conformal import SplitConformal, set_metrics
from calib_jax.calibrators.histogram import OneVsRestBinning
from calib_jax.calibrators.scaling import VectorScaling
from calib_jax.calibrators.temperature import Temperature, TemperatureScaling
from calib_jax.core.errors import DataError
from calib_jax.evaluation import posthoc
from calib_jax.evaluation.labelled import Labelled


def split(num_examples, seed, **changes):
    rng = np.random.default_rng(seed)
    logits = 4 * rng.normal(size=(num_examples, 5)).astype(np.float32)
    labels = (logits + 4 * rng.normal(size=logits.shape)).argmax(axis=1).astype(np.int32)
    return Labelled(**{"scores": logits, "labels": labels, **changes})


HELD_OUT, TEST = split(300, 0), split(200, 1)
CALIBRATORS = {
    "temperature": TemperatureScaling(),
    "vector": VectorScaling(),
    "histogram": OneVsRestBinning(num_bins=4),
}


def test_every_calibrator_on_every_split():
    got = posthoc.calibrated(
        CALIBRATORS, HELD_OUT, {"id": TEST, "shift": HELD_OUT}, fitted_on="val", num_bins=7
    )
    assert list(got) == list(CALIBRATORS)
    for name, calibrator in CALIBRATORS.items():
        assert got[name]["fitted_on"] == "val"
        probs = calibrator.fit(HELD_OUT.scores, HELD_OUT.labels).probs(TEST.scores)
        after = Labelled(scores=probs, labels=TEST.labels, kind="probs")
        expected = after.metrics(after.outcomes(num_bins=7), num_bins=7)
        metrics = got[name]["metrics"]["id"]
        assert set(metrics) == {
            "accuracy",
            "nll",
            "brier",
            "ece_7",
            "smooth_ece",
            "classwise_ece",
            "mean_confidence",
        }
        assert metrics == pytest.approx({key: expected[key] for key in metrics})
    fitted = TemperatureScaling().fit(HELD_OUT.scores, HELD_OUT.labels)
    assert got["temperature"]["parameters"] == {"temperature": fitted.temperature}
    assert got["vector"]["parameters"] == got["histogram"]["parameters"] == {}


def test_logits_stay_logits_whose_likelihoods_are_finite():
    sharp = posthoc.apply(Temperature(temperature=1e-3), TEST)
    assert sharp.kind == "logits"
    assert np.isfinite(sharp.outcomes().nll).all()
    histogram = OneVsRestBinning().fit(HELD_OUT.scores, HELD_OUT.labels)
    assert posthoc.apply(histogram, TEST).kind == "probs"


def test_of_probabilities_the_logarithms_are_calibrated():
    probs = scipy.special.softmax(TEST.scores.astype(np.float64), axis=1)
    probs[0] = [1, 0, 0, 0, 0]
    given = Labelled(scores=probs, labels=TEST.labels, kind="probs")
    got = posthoc.apply(Temperature(temperature=2.0), given)
    expected = scipy.special.softmax(TEST.scores[1:].astype(np.float64) / 2, axis=1)
    got_probs = scipy.special.softmax(got.scores, axis=1)
    np.testing.assert_allclose(got_probs[1:], expected, rtol=1e-10)
    assert np.isfinite(got.scores).all() and got_probs[0, 0] == pytest.approx(1)


def test_sets_of_every_score():
    got = posthoc.conformal(0.2, HELD_OUT, {"id": TEST})
    assert list(got) == ["alpha", "thr", "aps", "raps"]
    for name, score in posthoc.SET_SCORES.items():
        fitted = SplitConformal(alpha=0.2, score=score).fit(HELD_OUT.scores, HELD_OUT.labels)
        found = set_metrics(fitted.sets(TEST.scores), TEST.labels)
        assert got[name]["id"] == {"coverage": found.coverage, "mean_size": found.mean_size}
        assert 0.7 < found.coverage < 0.9


def test_sets_of_fewer_classes_and_of_several_right_answers():
    groups = np.array([0, 1, 1, -1, -1], np.int32)
    labels = (TEST.labels % 3).astype(np.int32)
    right = np.ones((200, 5), bool)
    few = split(200, 1, labels=labels, groups=groups)
    got = posthoc.conformal(0.2, HELD_OUT, {"few": few, "any": split(200, 1, answers=right)})
    fitted = SplitConformal(alpha=0.2).fit(HELD_OUT.scores, HELD_OUT.labels)
    sets = fitted.sets(TEST.scores)
    own = np.stack([sets[:, 0], sets[:, 1] | sets[:, 2]], axis=1)
    assert got["thr"]["few"]["coverage"] == own[np.arange(200), groups[labels]].mean()
    assert got["thr"]["few"]["mean_size"] == own.sum(axis=1).mean()
    own = sets[np.arange(200), TEST.scores.argmax(axis=1)]
    assert got["thr"]["any"]["coverage"] == own.mean()


NAMES = ("calibration.logits", "logits")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_first_shared_row_is_named(dtype):
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(50, 3)).astype(dtype) for _ in range(2))
    posthoc.check_disjoint(first, second, names=NAMES)
    second[[7, 30]] = first[[40, 20]]
    message = r"calibration.logits: got in row \[20\] what logits has in row \[30\], expected other"
    with pytest.raises(DataError, match=message):
        posthoc.check_disjoint(first, second.astype(np.float64), names=NAMES)
    with pytest.raises(DataError, match=message):
        posthoc.check_disjoint(first.astype(np.float64), second.astype(np.float32), names=NAMES)


def test_a_row_that_is_there_twice_tells_no_example_from_another():
    certain = np.tile([1.0, 0.0], (4, 1))
    posthoc.check_disjoint(certain, certain[:1], names=NAMES)
    posthoc.check_disjoint(np.zeros((1, 2)), np.array([[-0.0, 0.0]] * 2), names=NAMES)
    with pytest.raises(DataError, match=r"row \[0\] what logits has in row \[0\]"):
        posthoc.check_disjoint(np.zeros((1, 2)), np.array([[-0.0, 0.0]]), names=NAMES)
