"""Every vector by loop, and what a person may do wrong. Blocks of 7 numbers: many threads work."""

import math
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
import sklearn.metrics

from calib_jax.core import errors, numerics
from calib_jax.metrics import calibration, outcomes

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(61, 5)) * 3
LABELS = RNG.integers(0, 5, size=61)
VECTORS = ("predicted", "confidence", "nll", "brier", "rank", "correct")
FEW = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)


def softmax_by_loop(row):
    exponentials = [math.exp(value - max(row)) for value in row]
    return [value / math.fsum(exponentials) for value in exponentials]


def by_loop(logits, labels, num_bins):
    """The vectors, and sums of p - hit by class and bin."""
    found = {name: [] for name in VECTORS}
    num_classes = len(logits[0])
    excess = np.zeros((num_classes, num_bins))
    for row, y in zip(logits, labels, strict=True):
        p, order = softmax_by_loop(row), sorted(range(num_classes), key=lambda k: (-row[k], k))
        found["predicted"].append(order[0])
        found["correct"].append(order[0] == y)
        found["rank"].append(order.index(y))
        found["confidence"].append(p[order[0]])
        found["nll"].append(math.log(math.fsum(math.exp(v - row[y]) for v in row)))
        found["brier"].append(math.fsum((p[k] - (k == y)) ** 2 for k in range(num_classes)))
        for k in range(num_classes):
            at = max(b for b in range(num_bins) if b == 0 or p[k] >= b / num_bins)
            excess[k, at] += p[k] - (k == y)
    return found, excess


def check(got, expected, excess):
    for name in VECTORS:
        np.testing.assert_allclose(getattr(got, name), expected[name], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got.classwise_excess, excess, rtol=0, atol=1e-12)


def check_equal(got, expected):
    for name in (*VECTORS, "classwise_excess"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_logits_by_loop(dtype):
    logits = LOGITS.astype(dtype)
    expected = by_loop(logits.astype(np.float64).tolist(), LABELS, 15)
    check(outcomes.of_logits(logits, LABELS), *expected)


@pytest.mark.parametrize("num_bins", [1, 2, 40])
def test_probs_by_loop(num_bins):
    expected = by_loop(LOGITS.tolist(), LABELS, num_bins)
    probs = numerics.softmax(LOGITS)
    check(outcomes.of_probs(probs, LABELS.astype(np.uint8), num_bins=num_bins), *expected)


def test_scikit_learn():
    got, probs = outcomes.of_logits(LOGITS, LABELS), numerics.softmax(LOGITS)
    for value, expected in (
        (got.correct.mean(), sklearn.metrics.accuracy_score(LABELS, LOGITS.argmax(1))),
        ((got.rank < 3).mean(), sklearn.metrics.top_k_accuracy_score(LABELS, LOGITS, k=3)),
        (got.nll.mean(), sklearn.metrics.log_loss(LABELS, probs)),
        (got.brier.mean(), np.square(probs - np.eye(5)[LABELS]).sum(1).mean()),
    ):
        assert value == pytest.approx(expected, rel=1e-12)


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    got = outcomes.of_logits(golden["test_logits"], golden["test_labels"])
    for value, key in ((got.correct, "accuracy"), (got.nll, "nll"), (got.brier, "brier")):
        assert value.mean() == pytest.approx(float(golden[f"calibration/{key}"]), abs=1e-6)


def test_classwise_error():
    probs = numerics.softmax(LOGITS)
    for num_bins in (1, 10, 15):
        got = outcomes.of_logits(LOGITS, LABELS, num_bins=num_bins)
        expected = calibration.classwise_calibration_error(probs, LABELS, num_bins=num_bins)
        assert got.classwise_calibration_error == pytest.approx(expected, rel=1e-12)
    assert got.num_classes == 5


def test_edges_of_the_bins_are_those_of_calibration():
    probs = np.array([[b / 15, 1 - b / 15] for b in range(16)])
    got = outcomes.of_probs(probs, np.zeros(16, int))
    expected = calibration.classwise_calibration_error(probs, np.zeros(16, int))
    assert got.classwise_calibration_error == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("block", [7, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_and_threads_change_nothing(block, threads, monkeypatch):
    whole = outcomes.of_logits(LOGITS, LABELS)
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", block)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    got = outcomes.of_logits(LOGITS, LABELS)
    for name in VECTORS:
        np.testing.assert_array_equal(getattr(got, name), getattr(whole, name))
    np.testing.assert_allclose(got.classwise_excess, whole.classwise_excess, rtol=0, atol=1e-14)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    check_equal(outcomes.of_logits(LOGITS, LABELS), got)


def test_mapped_files_and_other_layouts(tmp_path):
    logits = LOGITS.astype(np.float32)
    np.save(tmp_path / "logits.npy", logits)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    expected = outcomes.of_logits(logits, LABELS)
    got = outcomes.of_logits(mapped, LABELS)
    check_equal(got, expected)
    assert type(got.nll) is np.ndarray
    check_equal(outcomes.of_logits(np.asfortranarray(logits), LABELS), expected)
    check_equal(outcomes.of_logits(logits.astype(">f4"), LABELS), expected)
    labels = np.full(61, 200, np.uint8)
    wide = np.hstack([logits, np.full((61, 196), -9, np.float32)])
    assert (outcomes.of_logits(wide, labels).labels == 200).all()


def test_memory_is_a_block_and_vectors(monkeypatch):
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", 1 << 14)
    logits, labels = np.zeros((4000, 200), np.float32), np.zeros(4000, int)
    outcomes.of_logits(logits[:1], labels[:1])
    tracemalloc.start()
    outcomes.of_logits(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 2


def test_ties_go_to_the_lower_class():
    got = outcomes.of_logits(np.zeros((4, 4), np.float32), np.arange(4))
    np.testing.assert_array_equal(got.predicted, 0)
    np.testing.assert_array_equal(got.rank, [0, 1, 2, 3])
    np.testing.assert_allclose(got.confidence, 0.25)


@pytest.mark.parametrize("span", [200.0, 1e30])
def test_wide_logits(span):
    got = outcomes.of_logits(np.array([[span, 0, 0], [0, 0, span]], np.float32), np.array([0, 1]))
    np.testing.assert_allclose(got.nll, [0, np.float32(span)], rtol=1e-12, atol=1e-80)
    np.testing.assert_allclose(got.brier, [0, 2], atol=1e-80)
    np.testing.assert_array_equal(got.rank, [0, 2])
    np.testing.assert_array_equal(got.confidence, 1)


def test_one_class_and_one_example():
    got = outcomes.of_logits(np.array([[3.0]]), np.array([0]))
    for name, value in zip(VECTORS, (0, 1, 0, 0, 0, True), strict=True):
        assert getattr(got, name) == [value]
    assert got.classwise_calibration_error == 0


def test_a_label_of_probability_zero():
    got = outcomes.of_probs(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    np.testing.assert_array_equal(got.nll, [0, np.inf])
    np.testing.assert_array_equal(got.brier, [0, 2])


@hypothesis.given(st.data())
@FEW
def test_the_first_number_that_is_not_finite_is_named(data):
    places = data.draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4)), min_size=1))
    value = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    function, name = data.draw(
        st.sampled_from([(outcomes.of_logits, "logits"), (outcomes.of_probs, "probs")])
    )
    values = numerics.softmax(LOGITS).astype(data.draw(st.sampled_from([np.float32, np.float16])))
    for place in places:
        values[place] = value
    row, column = min(places)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(errors.DataError) as caught:
        patch.setattr(numerics, "BLOCK_ELEMENTS", 100)
        function(values, LABELS)
    assert str(caught.value).startswith(f"{name}: got {value} at [{row}, {column}], expected fin")


@hypothesis.given(
    st.lists(st.integers(0, 60), min_size=1), st.sampled_from([-(2**31), -1, 5, 2**32])
)
@FEW
def test_the_first_label_outside_is_named(rows, label):
    labels = LABELS.astype(np.int64)
    labels[rows] = label
    with pytest.raises(errors.DataError) as caught:
        outcomes.of_logits(LOGITS, labels)
    message = f"labels: got {label} at [{min(rows)}], expected a class in [0, 5). "
    assert str(caught.value).startswith(message)


@hypothesis.given(st.lists(st.integers(0, 60), min_size=1), st.sampled_from([0.01, -0.5, 3.0]))
@FEW
def test_the_first_row_that_is_no_distribution_is_named(rows, change):
    probs = numerics.softmax(LOGITS)
    probs[rows, 1] = probs[rows, 1] * 0 + change
    probs[rows, 0] = 1 - probs[rows, 1:].sum(axis=1) + (change if change > 0 else 0)
    pattern = "sum of" if change > 0 and (probs >= 0).all() else "expected at least 0"
    with pytest.raises(errors.DataError, match=rf"^probs: got .*{pattern}") as caught:
        outcomes.of_probs(probs, LABELS)
    assert f"[{min(rows)}" in str(caught.value)


def test_shapes(monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.DataError, match=r"labels: got shape \(60,\), expected \(61,\)"):
        outcomes.of_logits(LOGITS, LABELS[1:])
    with pytest.raises(errors.DataError, match=r"probs: got shape \(61,\), expected \(examples"):
        outcomes.of_probs(LOGITS[:, 0], LABELS)
    with pytest.raises(errors.DataError, match="logits: got 0 examples, expected at least 1"):
        outcomes.of_logits(LOGITS[:0], LABELS[:0])
    with pytest.raises(errors.DataError, match="labels: got dtype float64, expected integers"):
        outcomes.of_logits(LOGITS, LABELS.astype(float))
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        outcomes.of_logits(LOGITS, LABELS, num_bins=0)
