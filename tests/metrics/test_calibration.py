import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from calib_jax.core import errors, numerics
from calib_jax.metrics import calibration

RNG = np.random.default_rng(0)
PROBS = numerics.softmax(RNG.normal(size=(257, 7)) * 2)
LABELS = RNG.integers(0, 7, size=257)
ALL = {
    **{
        norm: functools.partial(calibration.expected_calibration_error, norm=norm)
        for norm in ("l1", "l2", "max")
    },
    "mce": calibration.maximum_calibration_error,
    "adaptive": calibration.adaptive_calibration_error,
    "classwise": calibration.classwise_calibration_error,
}


VECTORS = calibration.top_label(PROBS, LABELS)


def gaps_by_loop(confidence, correct, num_bins):
    """(share, gap) of every bin that holds an example."""
    gaps = []
    for b in range(num_bins):
        lo, hi = b / num_bins, (b + 1) / num_bins
        members = [
            i for i, p in enumerate(confidence) if lo <= p < hi or (b == num_bins - 1 and p >= hi)
        ]
        if members:
            gap = abs(np.mean([correct[i] for i in members]) - np.mean(confidence[members]))
            gaps.append((len(members) / len(confidence), gap))
    return gaps


@pytest.mark.parametrize("num_bins", [10, 15])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_golden(golden_dir, norm, num_bins):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    ece = calibration.expected_calibration_error(
        numerics.softmax(golden["test_logits"]),
        golden["test_labels"],
        num_bins=num_bins,
        norm=norm,
    )
    expected = golden[f"calibration/ece_{norm}_{num_bins}bins"]
    np.testing.assert_allclose(ece, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_bins", [1, 10, 15, 40])
def test_equal_width_by_loop(num_bins, dtype):
    probs = PROBS.astype(dtype)
    correct = probs.argmax(1) == LABELS
    gaps = gaps_by_loop(probs.max(1).astype(np.float64), correct, num_bins)
    for metric, expected in [
        (ALL["l1"], sum(w * g for w, g in gaps)),
        (ALL["l2"], sum(w * g**2 for w, g in gaps) ** 0.5),
        (ALL["max"], max(g for _, g in gaps)),
        (ALL["mce"], max(g for _, g in gaps)),
    ]:
        np.testing.assert_allclose(metric(probs, LABELS, num_bins=num_bins), expected, rtol=1e-9)


@pytest.mark.parametrize("num_bins", [1, 15])
@pytest.mark.parametrize("block", [7 * 10, 1 << 20])
def test_classwise_by_loop(num_bins, block, monkeypatch):
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", block)
    expected = np.mean(
        [sum(w * g for w, g in gaps_by_loop(PROBS[:, k], k == LABELS, num_bins)) for k in range(7)]
    )
    value = calibration.classwise_calibration_error(PROBS, LABELS, num_bins=num_bins)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


@pytest.mark.parametrize("num_bins", [1, 10, 15, 256, 300])
def test_adaptive_by_loop(num_bins):
    confidence, correct = PROBS.max(1), PROBS.argmax(1) == LABELS
    order = np.argsort(confidence)
    expected = sum(
        len(members) / 257 * abs(correct[members].mean() - confidence[members].mean())
        for members in np.array_split(order, num_bins)
        if len(members)
    )
    value = calibration.adaptive_calibration_error(PROBS, LABELS, num_bins=num_bins)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_bins_are_closed_below_and_the_last_on_both_sides():
    confidence = np.array([0.0, 0.25, 0.5, 0.75, 1.0, np.nextafter(0.5, 0)])
    bins = calibration.reliability_bins(confidence, np.ones(6, bool), num_bins=4)
    np.testing.assert_array_equal(bins.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(bins.count, [1, 2, 1, 2])
    np.testing.assert_array_equal(bins.accuracy, [1, 1, 1, 1])
    np.testing.assert_allclose(bins.confidence, [0, 0.375, 0.5, 0.875])


def test_empty_bins_are_nan_and_rounding_above_one_is_kept():
    confidence = np.array([0.1, 1.0000001], np.float32)
    bins = calibration.reliability_bins(confidence, np.array([True, False]), num_bins=3)
    np.testing.assert_array_equal(bins.count, [1, 0, 1])
    np.testing.assert_array_equal(bins.accuracy, [1, np.nan, 0])
    assert np.isnan(bins.confidence[1])


def test_bins_agree_with_the_error():
    confidence, correct = calibration.top_label(PROBS, LABELS)
    np.testing.assert_array_equal(confidence, PROBS.max(1))
    np.testing.assert_array_equal(correct, PROBS.argmax(1) == LABELS)
    bins = calibration.reliability_bins(confidence, correct, num_bins=15)
    assert bins.count.sum() == 257
    ece = np.nansum(bins.count / 257 * np.abs(bins.accuracy - bins.confidence))
    assert calibration.expected_calibration_error(PROBS, LABELS) == pytest.approx(ece)


def test_calibrated_predictions_have_no_error():
    probs = np.tile([0.75, 0.25], (8, 1))
    labels = np.array([0, 0, 0, 1] * 2)
    for name, metric in ALL.items():
        assert metric(probs, labels) == pytest.approx(0, abs=1e-12), name


def test_sure_and_wrong_is_the_worst():
    probs = np.tile([1.0, 0.0], (5, 1))
    for name, metric in ALL.items():
        assert metric(probs, np.ones(5, int)) == 1.0, name


def test_ties_at_an_adaptive_border_do_not_depend_on_the_order():
    probs = np.tile([0.75, 0.25], (8, 1))
    for labels in ([0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 0, 0]):
        ace = calibration.adaptive_calibration_error(probs, np.array(labels), num_bins=4)
        assert ace == pytest.approx(0, abs=1e-12)


@hypothesis.settings(deadline=None, max_examples=30, derandomize=True)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 30))
def test_properties(seed, n, num_bins):
    rng = np.random.default_rng(seed)
    # Coarse values make ties and confidences that lie on the edges.
    probs = rng.multinomial(10, [0.4, 0.3, 0.3], size=n) / 10
    labels = rng.integers(0, 3, size=n)
    order, names = rng.permutation(n), rng.permutation(3)
    values = {name: metric(probs, labels, num_bins=num_bins) for name, metric in ALL.items()}
    for name, metric in ALL.items():
        assert 0 <= values[name] <= 1
        shuffled = metric(probs[order], labels[order], num_bins=num_bins)
        assert shuffled == pytest.approx(values[name], abs=1e-12)
    assert values["l1"] <= values["l2"] + 1e-12
    assert values["l2"] <= values["max"] + 1e-12
    renamed = calibration.classwise_calibration_error(
        probs[:, names], np.argsort(names)[labels], num_bins=num_bins
    )
    assert renamed == pytest.approx(values["classwise"], abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_bad_input(name):
    with pytest.raises(errors.DataError, match=r"probs: got a sum of 2 in row \[0\], expected 1"):
        ALL[name](2 * PROBS, LABELS)
    with pytest.raises(errors.DataError, match=r"labels: got -1 at \[0\]"):
        ALL[name](PROBS, LABELS * 0 - 1)
    with pytest.raises(errors.DataError, match="probs: got 0 examples"):
        ALL[name](PROBS[:0], LABELS[:0])
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        ALL[name](PROBS, LABELS, num_bins=0)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_confidence_outside(value):
    with pytest.raises(errors.DataError, match=rf"confidence: got {value} at \[1\], expected a pr"):
        calibration.reliability_bins(np.array([0.5, value]), np.ones(2, bool), num_bins=5)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("num_bins", [1, 15, 300])
def test_equal_mass_by_loop(norm, num_bins):
    confidence, correct = VECTORS
    gaps = [
        (len(rows) / 257, abs(correct[rows].mean() - confidence[rows].mean()))
        for rows in np.array_split(np.argsort(confidence), num_bins)
        if len(rows)
    ]
    expected = {
        "l1": sum(w * g for w, g in gaps),
        "l2": sum(w * g**2 for w, g in gaps) ** 0.5,
        "max": max(g for _, g in gaps),
    }
    value = calibration.calibration_error(
        confidence, correct, num_bins=num_bins, norm=norm, binning="mass"
    )
    np.testing.assert_allclose(value, expected[norm], rtol=1e-9)


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("num_bins", [1, 10, 256, 300])
def test_debiased_by_loop(binning, num_bins):
    confidence, correct = VECTORS
    if binning == "mass":
        members = np.array_split(np.argsort(confidence), num_bins)
    else:
        bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
        members = [np.flatnonzero(bins == b) for b in range(num_bins)]
    total = 0
    for rows in members:
        if len(rows) > 1:
            accuracy = correct[rows].mean()
            noise = accuracy * (1 - accuracy) / (len(rows) - 1)
            gap = accuracy - confidence[rows].mean()
            total += len(rows) / 257 * (gap**2 - noise)
    value = calibration.debiased_calibration_error(
        confidence, correct, num_bins=num_bins, binning=binning
    )
    np.testing.assert_allclose(value, max(0, total) ** 0.5, rtol=1e-9)


@pytest.mark.parametrize("num_bins", [1, 10])
@pytest.mark.parametrize("batch_size", [1, 64, 512])
def test_batch_average_by_loop(batch_size, num_bins):
    confidence, correct = VECTORS
    total = 0
    for start in range(0, 257, batch_size):
        rows = slice(start, start + batch_size)
        gaps = gaps_by_loop(confidence[rows], correct[rows], num_bins)
        total += len(confidence[rows]) * sum(w * g for w, g in gaps)
    value = calibration.batch_averaged_calibration_error(
        confidence, correct, batch_size=batch_size, num_bins=num_bins
    )
    np.testing.assert_allclose(value, total / 257, rtol=1e-9)


def test_a_calibrated_model_passes_but_for_the_average_of_batches():
    rng = np.random.default_rng(1)
    confidence = rng.beta(5, 1.5, 50_000)
    correct = rng.random(50_000) < confidence
    assert calibration.calibration_error(confidence, correct) < 0.01
    assert calibration.debiased_calibration_error(confidence, correct) < 0.005
    assert calibration.batch_averaged_calibration_error(confidence, correct) > 0.03
    assert calibration.batch_averaged_calibration_error(confidence, correct, batch_size=64) > 0.09


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("num_bins", [1, 10, 300])
def test_brier_decomposition_by_loop(binning, num_bins):
    confidence, correct = VECTORS
    parts = calibration.brier_decomposition(confidence, correct, num_bins=num_bins, binning=binning)
    if binning == "mass":
        members = np.array_split(np.argsort(confidence), num_bins)
    else:
        bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
        members = [np.flatnonzero(bins == b) for b in range(num_bins)]
    reliability = resolution = residual = 0
    for rows in members:
        if len(rows):
            p, y = confidence[rows], correct[rows].astype(float)
            reliability += len(rows) / 257 * (p.mean() - y.mean()) ** 2
            resolution += len(rows) / 257 * (y.mean() - correct.mean()) ** 2
            residual += sum((p - p.mean()) ** 2 - 2 * (p - p.mean()) * (y - y.mean())) / 257
    uncertainty = correct.mean() * (1 - correct.mean())
    expected = (reliability, resolution, uncertainty, residual)
    np.testing.assert_allclose(parts, expected, rtol=0, atol=1e-12)
    score = np.mean((confidence - correct) ** 2)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.residual
    assert total == pytest.approx(score, abs=1e-15)


@pytest.mark.parametrize("value", [0.3, 1.0])
@pytest.mark.parametrize("correct", [True, False])
def test_one_example(value, correct):
    confidence, hits = np.array([value]), np.array([correct])
    gap = pytest.approx(abs(value - correct))
    for norm in ("l1", "l2", "max"):
        for binning in ("width", "mass"):
            error = calibration.calibration_error(confidence, hits, norm=norm, binning=binning)
            assert error == gap
    assert calibration.debiased_calibration_error(confidence, hits) == 0
    assert calibration.batch_averaged_calibration_error(confidence, hits) == gap
    parts = calibration.brier_decomposition(confidence, hits)
    assert parts == pytest.approx((abs(value - correct) ** 2, 0, 0, 0))


def test_fewer_examples_than_bins():
    """Each in a bin of its own: the mean gap, as a loop over the bins has it."""
    confidence, hits = np.array([0.95, 0.5, 0.3]), np.array([True, False, True])
    for binning in ("width", "mass"):
        error = calibration.calibration_error(confidence, hits, num_bins=15, binning=binning)
        assert error == pytest.approx((0.05 + 0.5 + 0.7) / 3)


def test_bad_vectors(monkeypatch):
    for metric in (
        calibration.calibration_error,
        calibration.debiased_calibration_error,
        calibration.batch_averaged_calibration_error,
        calibration.brier_decomposition,
    ):
        with pytest.raises(
            errors.DataError, match=r"confidence: got nan at \[0\], expected a prob"
        ):
            metric(np.full(2, np.nan), np.ones(2, bool))
        with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
            metric(*VECTORS, num_bins=0)
    with pytest.raises(errors.ConfigError, match="batch_size: got 0, expected at least 1"):
        calibration.batch_averaged_calibration_error(*VECTORS, batch_size=0)
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.ConfigError, match="binning: got 'mess', expected 'width' or 'mass'"):
        calibration.calibration_error(*VECTORS, binning="mess")


def test_unknown_norm(monkeypatch):
    # The run-time type check of the tests would stop it first.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.ConfigError, match="norm: got 'l3', expected 'l1', 'l2' or 'max'"):
        calibration.expected_calibration_error(PROBS, LABELS, norm="l3")


def test_mismatched_lengths(monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    for metric in ALL.values():
        with pytest.raises(errors.DataError, match=r"labels: got shape \(256,\), expected \(257"):
            metric(PROBS, LABELS[1:])
    with pytest.raises(errors.DataError, match=r"correct: got shape \(2,\), expected \(257,\)"):
        calibration.reliability_bins(PROBS.max(1), np.ones(2, bool), num_bins=5)


@pytest.mark.parametrize(("low", "expected"), [(0.3, 0.175), (0.6, 0.125)])
def test_confidences_on_an_edge_share_the_bin_above(low, expected):
    """Both lie in [low, low + 0.1); `np.linspace` puts its edge above 0.3."""
    confidence, correct = np.array([low, low + 0.05]), np.array([True, False])
    assert calibration.calibration_error(confidence, correct, num_bins=10) == pytest.approx(
        expected
    )
    found = calibration.reliability_bins(confidence, correct, num_bins=10)
    assert found.count.tolist() == [0] * round(10 * low) + [2] + [0] * (9 - round(10 * low))
