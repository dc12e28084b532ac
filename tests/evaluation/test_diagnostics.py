"""The spectrum against the eigenvalues of NumPy's correlation matrix."""

import numpy as np
import pytest

from calib_jax.core.errors import DataError
from calib_jax.evaluation.diagnostics import spectrum

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spectrum_is_that_of_the_correlation_matrix(dtype):
    features = (RNG.normal(size=(60, 7)) @ RNG.normal(size=(7, 7)) * 3 + 5).astype(dtype)
    expected = np.linalg.eigvalsh(np.corrcoef(features.astype(np.float64).T))[::-1]
    got = spectrum(features)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    np.testing.assert_allclose(got.sum(), 7, rtol=1e-12)


def test_fewer_examples_than_dimensions_have_zeros_at_the_end():
    features = RNG.normal(size=(4, 9))
    got = spectrum(features)
    assert got.shape == (9,)
    np.testing.assert_allclose(got[:3], np.linalg.eigvalsh(np.corrcoef(features.T))[::-1][:3])
    np.testing.assert_allclose(got[3:], 0.0, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -123456.789, 1e-9])
@pytest.mark.parametrize("rows", [7, 1000])
def test_a_constant_column_counts_as_zero(value, rows):
    features = RNG.normal(size=(rows, 3))
    expected = np.linalg.eigvalsh(np.corrcoef(features.T))[::-1]
    got = spectrum(np.column_stack([features[:, 0], np.full(rows, value), features[:, 1:]]))
    np.testing.assert_allclose(got[:3], expected, rtol=1e-9)
    np.testing.assert_allclose(got[3], 0.0, atol=1e-12)


def test_the_scale_of_a_column_does_not_matter():
    features = RNG.normal(size=(30, 3))
    got = spectrum(features * [1e-20, 1.0, 1e20])
    np.testing.assert_allclose(got, spectrum(features), rtol=1e-9)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_examples(rows):
    with pytest.raises(DataError, match=rf"features: got {rows} examples, expected at least 2"):
        spectrum(np.zeros((rows, 3)))
