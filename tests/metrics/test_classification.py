import math

import numpy as np
import pytest
import sklearn.metrics

from calib_jax.core import errors, numerics
from calib_jax.metrics import classification

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(257, 7)) * 3
LABELS = RNG.integers(0, 7, size=257)
ALL = (
    classification.accuracy,
    classification.top_k_accuracy,
    classification.negative_log_likelihood,
)


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    logits, labels = golden["test_logits"], golden["test_labels"]
    assert classification.accuracy(logits, labels) == golden["calibration/accuracy"]
    for value, key in [
        (classification.negative_log_likelihood(logits, labels), "nll"),
        (classification.brier_score(numerics.softmax(logits), labels), "brier"),
    ]:
        np.testing.assert_allclose(value, golden[f"calibration/{key}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [70, 1 << 20])
def test_loops(dtype, block, monkeypatch):
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", block)
    logits, labels = LOGITS.astype(dtype), LABELS.astype(np.int32)
    probs = numerics.softmax(logits)
    nll = brier = top3 = 0.0
    for row, p, y in zip(logits, probs, labels, strict=True):
        nll -= math.log(p[y]) / len(labels)
        brier += sum((p[k] - (k == y)) ** 2 for k in range(7)) / len(labels)
        top3 += (y in sorted(range(7), key=lambda k: (-row[k], k))[:3]) / len(labels)
    np.testing.assert_allclose(classification.negative_log_likelihood(logits, labels), nll)
    np.testing.assert_allclose(classification.brier_score(probs, labels), brier)
    np.testing.assert_allclose(classification.top_k_accuracy(logits, labels, k=3), top3)


def test_scikit_learn():
    probs = numerics.softmax(LOGITS)
    np.testing.assert_allclose(
        classification.top_k_accuracy(LOGITS, LABELS, k=5),
        sklearn.metrics.top_k_accuracy_score(LABELS, LOGITS, k=5),
    )
    np.testing.assert_allclose(
        classification.negative_log_likelihood(LOGITS, LABELS),
        sklearn.metrics.log_loss(LABELS, probs),
    )
    np.testing.assert_allclose(
        classification.accuracy(LOGITS, LABELS),
        sklearn.metrics.accuracy_score(LABELS, LOGITS.argmax(1)),
    )


def test_ties_go_to_the_lower_class():
    logits = np.zeros((4, 4), np.float32)
    labels = np.arange(4)
    assert classification.accuracy(logits, labels) == 0.25
    assert [classification.top_k_accuracy(logits, labels, k=k) for k in (1, 2, 4)] == [0.25, 0.5, 1]


def test_top_k_edges():
    top_k = [classification.top_k_accuracy(LOGITS, LABELS, k=k) for k in range(1, 10)]
    assert top_k[0] == classification.accuracy(LOGITS, LABELS)
    assert top_k == sorted(top_k)
    assert top_k[6:] == [1.0, 1.0, 1.0]


def test_extreme_logits():
    logits = np.array([[1e4, 0.0], [1e4, 0.0]])
    nll = classification.negative_log_likelihood(logits, np.array([0, 1]))
    assert nll == 5e3
    assert classification.brier_score(numerics.softmax(logits), np.array([0, 1])) == 1.0


def test_brier_documented_example():
    assert classification.brier_score(
        np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([0, 1])
    ) == pytest.approx(0.13)


def test_order_of_the_split_does_not_matter():
    order = RNG.permutation(257)
    for metric in ALL:
        assert metric(LOGITS[order], LABELS[order]) == pytest.approx(metric(LOGITS, LABELS))


@pytest.mark.parametrize("metric", ALL)
def test_bad_input(metric):
    logits = LOGITS.copy()
    logits[3, 2] = np.nan
    with pytest.raises(errors.DataError, match=r"logits: got nan at \[3, 2\]"):
        metric(logits, LABELS)
    with pytest.raises(errors.DataError, match=r"labels: got 7 at \[0\], expected a class in \["):
        metric(LOGITS, np.full(257, 7))
    with pytest.raises(errors.DataError, match="logits: got 0 examples"):
        metric(LOGITS[:0], LABELS[:0])


def test_bad_k_and_bad_probs():
    with pytest.raises(errors.ConfigError, match="k: got 0, expected at least 1"):
        classification.top_k_accuracy(LOGITS, LABELS, k=0)
    with pytest.raises(errors.DataError, match=r"probs: got .* expected at least 0"):
        classification.brier_score(LOGITS, LABELS)


@pytest.mark.parametrize("num_classes", [7, 9])
def test_per_class_numbers_are_scikit_learns(num_classes):
    """Classes 0 and 6 have no example, class 1 is never predicted, 7 and 8 are nowhere."""
    predicted = np.where(LOGITS.argmax(1) == 1, 0, LOGITS.argmax(1))
    labels = np.clip(LABELS, 1, 5)
    given = (predicted, labels)
    per_class = classification.per_class_accuracy(*given, num_classes=num_classes)
    for k in range(num_classes):
        expected = (predicted[labels == k] == k).mean() if k in labels else np.nan
        np.testing.assert_allclose(per_class[k], expected, rtol=1e-12)
    f1 = sklearn.metrics.f1_score(labels, predicted, average="macro", zero_division=0)
    np.testing.assert_allclose(
        classification.macro_f1(*given, num_classes=num_classes), f1, rtol=1e-12
    )
    np.testing.assert_allclose(
        classification.balanced_accuracy(*given, num_classes=num_classes),
        np.nanmean(per_class),
        rtol=1e-12,
    )
    seen = np.isin(predicted, labels)  # scikit-learn warns of the others
    np.testing.assert_allclose(
        classification.balanced_accuracy(predicted[seen], labels[seen], num_classes=num_classes),
        sklearn.metrics.balanced_accuracy_score(labels[seen], predicted[seen]),
        rtol=1e-12,
    )


def test_per_class_numbers_of_one_class_and_of_none_right():
    ones, zeros = np.ones(3, int), np.zeros(3, int)
    for metric in (classification.balanced_accuracy, classification.macro_f1):
        assert metric(zeros, zeros, num_classes=1) == 1.0
        assert metric(ones, zeros, num_classes=2) == 0.0
    with pytest.raises(errors.DataError, match=r"predicted: got 1 at \[0\], expected a class in"):
        classification.macro_f1(ones, zeros, num_classes=1)
    with pytest.raises(errors.DataError, match="predicted: got 0 examples"):
        classification.balanced_accuracy(ones[:0], zeros[:0], num_classes=2)


def test_mismatched_lengths(monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    for metric in ALL:
        with pytest.raises(errors.DataError, match=r"labels: got shape \(256,\), expected \(257"):
            metric(LOGITS, LABELS[1:])
