import numpy as np
import pytest

from calib_jax.calibrators.histogram import OneVsRestBinning, TopLabelBinning, TopLabelHistogram
from calib_jax.core import numerics
from calib_jax.core.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(97, 4)) * 3
LABELS = (LOGITS + 2 * RNG.gumbel(size=LOGITS.shape)).argmax(axis=1)
PROBS = numerics.softmax(LOGITS)


def frequency_by_loop(values, hits, num_bins, queries):
    """The frequency of the bin of each query: bins begin at every (i n // m)-th smallest value."""
    starts = [-np.inf] + [sorted(values)[i * len(values) // num_bins] for i in range(1, num_bins)]
    ends = [*starts[1:], np.inf]
    result = []
    for query in queries:
        for start, end in zip(starts, ends, strict=True):
            if start <= query < end:
                inside = [hit for v, hit in zip(values, hits, strict=True) if start <= v < end]
                result.append(np.mean(inside))
    return np.array(result)


@pytest.mark.parametrize("num_bins", [1, 2, 10, 97])
def test_top_label_by_loop(num_bins):
    confidence, predicted = PROBS.max(axis=1), PROBS.argmax(axis=1)
    correct = predicted == LABELS
    expected = frequency_by_loop(confidence, correct, num_bins, confidence)
    probs = TopLabelBinning(num_bins=num_bins).fit(LOGITS, LABELS).probs(LOGITS)
    np.testing.assert_allclose(probs[np.arange(97), predicted], expected, rtol=0, atol=1e-15)
    for i, k in enumerate(predicted):
        others = np.delete(PROBS[i], k)
        rest = np.delete(probs[i], k)
        np.testing.assert_allclose(rest, (1 - expected[i]) * others / others.sum(), atol=1e-15)


def test_calibration_split_is_calibrated():
    probs = TopLabelBinning(num_bins=8).fit(LOGITS, LABELS).probs(LOGITS)
    predicted = LOGITS.argmax(axis=1)
    confidence = probs[np.arange(97), predicted]
    for value in np.unique(confidence):
        inside = confidence == value
        assert (predicted == LABELS)[inside].mean() == pytest.approx(value)


@pytest.mark.parametrize("num_bins", [1, 3, 15])
def test_one_vs_rest_by_loop(num_bins):
    other = RNG.normal(size=(11, 4)) * 5
    queries = numerics.softmax(other)
    columns = [
        frequency_by_loop(PROBS[:, k], k == LABELS, num_bins, queries[:, k]) for k in range(4)
    ]
    raw = np.stack(columns, axis=1) + 1e-9 * queries
    fitted = OneVsRestBinning(num_bins=num_bins).fit(LOGITS, LABELS)
    assert fitted.frequency.shape == (4, num_bins)
    np.testing.assert_allclose(fitted.probs(other), raw / raw.sum(1, keepdims=True), rtol=1e-12)


def test_ties_leave_empty_bins_with_their_neighbours_frequency():
    # Confidence 1 for all but the first: the bins between are empty.
    logits = np.array([[1.0, 0.0]] + [[999.0, 0.0]] * 7)
    labels = np.array([1] + [0] * 7)
    fitted = TopLabelBinning(num_bins=4).fit(logits, labels)
    assert fitted.edges.tolist() == [1, 1, 1]
    assert fitted.frequency.tolist() == [0, 1, 1, 1]
    # All equal: the first bin is empty, and a less confident query falls into it.
    fitted = TopLabelBinning(num_bins=4).fit(logits[1:], labels[1:])
    assert fitted.frequency.tolist() == [1, 1, 1, 1]


def test_underflowed_others_share_evenly():
    fitted = TopLabelHistogram(frequency=np.array([0.7]), edges=np.empty(0))
    probs = fitted.probs(np.array([[0.0, 5000.0, 0.0, 0.0]]))
    np.testing.assert_allclose(probs, [[0.1, 0.7, 0.1, 0.1]])


def test_errors():
    for config in (TopLabelBinning, OneVsRestBinning):
        with pytest.raises(ConfigError, match="^num_bins: got 0, expected at least 1"):
            config(num_bins=0).fit(LOGITS, LABELS)
        with pytest.raises(DataError, match="got 97 examples, expected at least num_bins=98"):
            config(num_bins=98).fit(LOGITS, LABELS)
    with pytest.raises(DataError, match="got 3 classes, expected 4 as in the fit"):
        OneVsRestBinning().fit(LOGITS, LABELS).probs(LOGITS[:, :3])
