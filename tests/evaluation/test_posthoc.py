"""Calibrators and sets fitted on one split, tried on others."""

import dataclasses

import numpy as np
import pytest
import scipy.special

from calib_jax.calibrators.conformal import SplitConformal, set_metrics
from calib_jax.calibrators.histogram import OneVsRestBinning
from calib_jax.calibrators.sample_adaptive import SampleAdaptiveScaling
from calib_jax.calibrators.scaling import VectorScaling
from calib_jax.calibrators.temperature import Temperature, TemperatureScaling
from calib_jax.core.errors import ConfigError
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
    splits = {"validation": HELD_OUT, "id": TEST, "shift": HELD_OUT}
    got = posthoc.calibrated(CALIBRATORS, splits, num_bins=7)
    assert list(got) == list(CALIBRATORS)
    for name, calibrator in CALIBRATORS.items():
        assert got[name]["fitted_on"] == "validation"
        assert list(got[name]["metrics"]) == ["id", "shift"]
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


def test_what_is_not_fitted_here_needs_no_held_out_split():
    zero_shot = split(200, 5).scores
    pair = split(200, 1, zero_shot=zero_shot)
    calibrators = {"sals": SampleAdaptiveScaling(), "two": Temperature(temperature=2.0)}
    got = posthoc.calibrated(calibrators, {"id": pair})
    scaled = split(200, 1, scores=SampleAdaptiveScaling().scaled(TEST.scores, zero_shot))
    for name, after in (("sals", scaled), ("two", split(200, 1, scores=TEST.scores / 2))):
        expected = after.metrics(after.outcomes())
        metrics = got[name]["metrics"]["id"]
        assert metrics == pytest.approx({key: expected[key] for key in metrics})
        assert got[name]["fitted_on"] is None
    assert got["two"]["parameters"] == {"temperature": 2.0}
    with pytest.raises(ConfigError, match="sals needs the pre-trained model's scores of 'id'"):
        posthoc.calibrated(calibrators, {"id": TEST})
    with pytest.raises(ConfigError, match="got t, but no calibration split to fit it to"):
        posthoc.calibrated({"t": TemperatureScaling()}, {"id": TEST})


def test_paired_probabilities_are_their_logits():
    zero_shot = split(200, 5).scores
    logits = posthoc.apply(SampleAdaptiveScaling(), split(200, 1, zero_shot=zero_shot))
    probs = {
        "scores": scipy.special.softmax(TEST.scores, 1),
        "zero_shot": scipy.special.softmax(zero_shot, 1),
    }
    got = posthoc.apply(SampleAdaptiveScaling(), split(200, 1, kind="probs", **probs))
    softmaxes = [scipy.special.softmax(one.scores, 1) for one in (got, logits)]
    np.testing.assert_allclose(*softmaxes, atol=1e-5)


def test_notes_where_a_fit_rests_on_little():
    labels = np.minimum(HELD_OUT.labels, 3)
    right = HELD_OUT.scores.argmax(axis=1)
    for held_out, expected in (
        (HELD_OUT, {}),
        (split(300, 0, labels=labels), {"vector": "class", "histogram": "class"}),
        (split(300, 0, labels=right), {"temperature": "temperature"}),
    ):
        calibrators = CALIBRATORS | {"given": Temperature(temperature=1e-3)}
        got = posthoc.calibrated(calibrators, {"validation": held_out, "id": TEST})
        notes = {name: one["notes"] for name, one in got.items() if "notes" in one}
        assert list(notes) == list(expected)
        for name, (note,) in notes.items():
            assert expected[name] in note and "\n" not in note


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


def test_intervals_of_sets_by_explicit_resampling():
    drawn_from = {"id": dataclasses.replace(TEST, seed=3)}
    got = posthoc.conformal(0.2, HELD_OUT, drawn_from, num_resamples=30, level=0.8)
    rows = np.random.default_rng(3).integers(200, size=(30, 200))
    for name, score in posthoc.SET_SCORES.items():
        fitted = SplitConformal(alpha=0.2, score=score).fit(HELD_OUT.scores, HELD_OUT.labels)
        sets = fitted.sets(TEST.scores)  # the randomised ones are drawn once
        found = [set_metrics(sets[of], TEST.labels[of]) for of in rows]
        for key, ends in got[name]["id"]["intervals"].items():
            drawn = [getattr(one, key) for one in found]
            assert ends == pytest.approx(np.quantile(drawn, [0.1, 0.9]).tolist()), (name, key)


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
