"""The numbers of the table by hand."""

import json

import numpy as np
import pytest
import sklearn.metrics

from calib_jax.core.types import Predictions
from calib_jax.evaluation import split_metrics
from calib_jax.metrics import calibration, smooth
from calib_jax.metrics.outcomes import of_logits

RNG = np.random.default_rng(0)


def predictions(num_examples=40, num_classes=4):
    return Predictions(
        logits=RNG.normal(size=(num_examples, num_classes)).astype(np.float32) * 3,
        labels=RNG.integers(num_classes, size=num_examples).astype(np.int32),
        features=np.zeros((num_examples, 2), np.float32),
        class_embeddings=np.zeros((num_classes, 2), np.float32),
    )


def outcomes_of(given):
    return of_logits(given.logits, given.labels)


def top_labels(given):
    logits = given.logits.astype(np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, probs.max(axis=1), probs.argmax(axis=1) == given.labels


def test_metrics_of_a_split():
    given = predictions()
    probs, confidence, is_right = top_labels(given)
    own = probs[np.arange(40), given.labels]
    got = split_metrics.classification_metrics(outcomes_of(given))
    assert all(isinstance(value, float) for value in got.values())
    assert got["accuracy"] == is_right.mean()
    assert got["top5_accuracy"] == 1.0
    assert got["mean_confidence"] == pytest.approx(confidence.mean())
    assert got["nll"] == pytest.approx(-np.log(own).mean())
    one_hot = np.eye(4)[given.labels]
    assert got["brier"] == pytest.approx(((probs - one_hot) ** 2).sum(axis=1).mean())
    for num_bins, key in ((10, "ece_10"), (15, "ece_15")):
        bins = np.ceil(confidence * num_bins)
        ece = sum(
            abs((confidence - is_right)[bins == b].sum()) / 40 for b in range(1, num_bins + 1)
        )
        assert got[key] == pytest.approx(ece)
    predicted = probs.argmax(axis=1)
    balanced = sklearn.metrics.balanced_accuracy_score(given.labels, predicted)
    assert got["balanced_accuracy"] == pytest.approx(balanced)
    macro_f1 = sklearn.metrics.f1_score(given.labels, predicted, average="macro")
    assert got["macro_f1"] == pytest.approx(macro_f1)
    for key, metric in (
        ("adaptive_ece", calibration.adaptive_calibration_error),
        ("classwise_ece", calibration.classwise_calibration_error),
        ("mce", calibration.maximum_calibration_error),
    ):
        assert got[key] == pytest.approx(metric(probs, given.labels, num_bins=15))
    assert got["ece_10_per_batch_512"] == pytest.approx(got["ece_10"])  # it is one batch
    assert got["ece_15_l2"] >= got["ece_15"] and got["debiased_ece_15"] < 1
    assert got["smooth_ece"] == smooth.smooth_calibration_error(confidence, is_right)
    assert got["ks"] == pytest.approx(smooth.ks_calibration_error(confidence, is_right))
    risks = np.cumsum(~is_right[np.argsort(-confidence)]) / np.arange(1, 41)
    assert got["aurc"] == pytest.approx(risks.mean())
    assert 0 < got["augrc"] < got["aurc"]
    assert got["brier_uncertainty"] == pytest.approx(is_right.mean() * (1 - is_right.mean()))
    assert got["brier_reliability"] > 0 and got["brier_resolution"] > 0


def test_bins_are_in_the_names():
    got = split_metrics.classification_metrics(outcomes_of(predictions()), num_bins=7)
    assert {"ece_10", "ece_7", "ece_7_l2", "debiased_ece_7"} <= set(got)
    assert "ece_15" not in got


def test_reliability_is_json_whose_empty_bins_are_none():
    given = predictions()
    _, confidence, is_right = top_labels(given)
    got = split_metrics.reliability(outcomes_of(given))
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    np.testing.assert_allclose(got["edges"], np.linspace(0, 1, 16))
    bins = np.ceil(confidence * 15) - 1
    for b in range(15):
        inside = bins == b
        assert got["count"][b] == inside.sum()
        if not inside.any():
            assert got["confidence"][b] is None
            assert got["accuracy"][b] is None
            assert got["accuracy_low"][b] is got["accuracy_high"][b] is None
        else:
            assert got["confidence"][b] == pytest.approx(confidence[inside].mean())
            assert got["accuracy"][b] == pytest.approx(is_right[inside].mean())
            assert 0 <= got["accuracy_low"][b] <= got["accuracy"][b] <= got["accuracy_high"][b] <= 1


METRICS = {
    "validation": {"accuracy": 0.99, "ece_15": 0.99},
    "clean": {"accuracy": 0.9, "ece_15": 0.01},
    "blur": {"accuracy": 0.5, "ece_15": 0.2},
    "noise": {"accuracy": 0.8, "ece_15": 0.3},
}
DETECTION = {
    name: {"mcm": {"auroc": auroc}, "msp": {"auroc": 0.1}}
    for name, auroc in (("near_1", 0.6), ("near_2", 0.9), ("far", 0.95))
}


def summary(**change):
    options = {
        "id_name": "clean",
        "shifts": ("blur", "noise"),
        "near": ("near_1", "near_2"),
        "far": ("far",),
        "score": "mcm",
        "metrics": METRICS,
        "detection": DETECTION,
    }
    return split_metrics.summary(**{**options, **change})


def test_summary_averages_shifts_and_ood_sets_alike():
    assert summary() == pytest.approx(
        {
            "id_accuracy": 0.9,
            "ood_accuracy": 0.65,
            "id_ece": 0.01,
            "ood_ece": 0.25,
            "near_auroc": 0.75,
            "far_auroc": 0.95,
            "worst_shift_accuracy": 0.5,
            "worst_shift_ece": 0.3,
            "effective_robustness": None,
            "ood_ece_calibrated": None,
        }
    )
    calibrated = {"clean": {"ece_15": 0.9}, "blur": {"ece_15": 0.1}, "noise": {"ece_15": 0.2}}
    assert summary(calibrated=calibrated)["ood_ece_calibrated"] == pytest.approx(0.15)
    beyond = {"blur": 0.02, "noise": -0.01}
    robust = {
        name: of | ({"effective_robustness": beyond[name]} if name in beyond else {})
        for name, of in METRICS.items()
    }
    assert summary(metrics=robust)["effective_robustness"] == pytest.approx(0.005)
    assert summary(score="msp")["near_auroc"] == pytest.approx(0.1)


def test_summary_without_shifts_or_ood_sets_has_none():
    got = summary(shifts=(), near=(), far=())
    assert got == {
        "id_accuracy": 0.9,
        "ood_accuracy": None,
        "id_ece": 0.01,
        "ood_ece": None,
        "near_auroc": None,
        "far_auroc": None,
        "worst_shift_accuracy": None,
        "worst_shift_ece": None,
        "effective_robustness": None,
        "ood_ece_calibrated": None,
    }
