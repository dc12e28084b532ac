import numpy as np
import pytest

from calib_jax.core import errors
from calib_jax.metrics import bins

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.integers(0, 11, 97) / 10  # ties, and values on the edges
CORRECT = RNG.random(97) < CONFIDENCE


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("num_bins", [1, 4, 15, 97, 120])
def test_sums_are_memberships_times_the_examples(binning, num_bins):
    sums = bins.bin_sums(CONFIDENCE, CORRECT, num_bins=num_bins, binning=binning)
    shares = bins.memberships(CONFIDENCE, num_bins=num_bins, binning=binning)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(sums.count, shares.sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(sums.confidence, CONFIDENCE @ shares, atol=1e-12)
    np.testing.assert_allclose(sums.correct, CORRECT @ shares, atol=1e-12)


def test_equal_mass_sizes_and_order():
    sums = bins.bin_sums(CONFIDENCE, CORRECT, num_bins=15, binning="mass")
    np.testing.assert_array_equal(sums.count, [7] * 7 + [6] * 8)
    assert (np.diff(sums.confidence / sums.count) >= -1e-12).all()
    order = RNG.permutation(97)
    again = bins.bin_sums(CONFIDENCE[order], CORRECT[order], num_bins=15, binning="mass")
    np.testing.assert_allclose(again.correct, sums.correct, rtol=1e-12)


def test_more_bins_than_examples():
    sums = bins.bin_sums(np.array([0.9, 0.2]), np.array([True, False]), num_bins=3, binning="mass")
    np.testing.assert_array_equal(sums.count, [1, 1, 0])
    np.testing.assert_array_equal(sums.confidence, [0.2, 0.9, 0])
    np.testing.assert_array_equal(sums.correct, [0, 1, 0])


def test_equal_width_takes_any_shape():
    values = np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 1.0000001]])
    np.testing.assert_array_equal(bins.equal_width(values, num_bins=4), [[0, 1, 2], [3, 3, 3]])


def test_bad_input(monkeypatch):
    with pytest.raises(errors.ConfigError, match="num_bins: got 0, expected at least 1"):
        bins.memberships(CONFIDENCE, num_bins=0)
    with pytest.raises(errors.DataError, match="confidence: got 0 examples"):
        bins.bin_sums(CONFIDENCE[:0], CORRECT[:0], num_bins=3)
    with pytest.raises(errors.DataError, match=r"confidence: got -0.5 at \[0\], expected a prob"):
        bins.check_confidence(np.full(2, -0.5), np.ones(2, bool))
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.DataError, match=r"correct: got shape \(96,\), expected \(97,\)"):
        bins.bin_sums(CONFIDENCE, CORRECT[1:], num_bins=3)
    with pytest.raises(errors.ConfigError, match="binning: got 'size', expected 'width' or 'mass'"):
        bins.memberships(CONFIDENCE, num_bins=3, binning="size")


def test_a_value_on_an_edge_lies_above_it():
    """For every number of bins and every edge, written as a fraction."""
    for num_bins in range(1, 201):
        edges = np.array([k / num_bins for k in range(num_bins)])
        np.testing.assert_array_equal(
            bins.equal_width(edges, num_bins=num_bins), np.arange(num_bins)
        )
        np.testing.assert_array_equal(bins.equal_width_edges(num_bins)[:-1], edges)
        assert bins.equal_width_edges(num_bins)[-1] == 1
