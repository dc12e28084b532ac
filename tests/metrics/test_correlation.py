"""Correlations against NumPy, SciPy and a bootstrap written as a loop."""

import numpy as np
import pytest
import scipy.stats

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.metrics.correlation import NUM_RESAMPLES, correlation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 3))
Y = 0.5 * X + RNG.normal(size=(9, 3))
TIED = np.round(X)
LIBRARY = {
    "pearson": lambda x, y: np.corrcoef(x, y)[0, 1],
    "spearman": lambda x, y: scipy.stats.spearmanr(x, y).statistic,
}


@pytest.mark.parametrize("kind", LIBRARY)
@pytest.mark.parametrize("x", [X, TIED, X.astype(np.float32) * 1e4 + 1e5], ids=["x", "ties", "far"])
def test_equals_the_libraries_and_a_loop_over_resamples(kind, x):
    got = correlation(x, Y, kind=kind)
    np.testing.assert_allclose(got.value, LIBRARY[kind](x.ravel(), Y.ravel()), rtol=1e-6)
    rows = np.random.default_rng(0).integers(9, size=(NUM_RESAMPLES, 9))
    values = [
        LIBRARY[kind](
            np.concatenate([x[k] for k in chosen]), np.concatenate([Y[k] for k in chosen])
        )
        for chosen in rows[:: 1 if kind == "pearson" else 8]
    ]
    tolerance = 1e-5 if kind == "pearson" else 0.05  # a part of the resamples: SciPy is slow
    np.testing.assert_allclose(got[1:], np.quantile(values, (0.025, 0.975)), atol=tolerance)
    assert got.low < got.value < got.high


@pytest.mark.parametrize("kind", LIBRARY)
def test_perfect_and_reversed(kind):
    assert correlation(X, 3 * X + 1, kind=kind) == pytest.approx((1.0, 1.0, 1.0))
    assert correlation(X, -X, kind=kind) == pytest.approx((-1.0, -1.0, -1.0))


def test_spearman_sees_the_order_alone():
    assert correlation(X, Y, kind="spearman") == correlation(np.exp(X), Y**3, kind="spearman")


def test_runs_of_a_setting_are_no_examples_of_their_own():
    """Every run three times over narrows nothing."""
    once, thrice = (
        correlation(np.repeat(X[:, :1], n, axis=1), np.repeat(Y[:, :1], n, axis=1), kind="pearson")
        for n in (1, 3)
    )
    assert once == pytest.approx(thrice)


def test_resamples_that_do_not_vary_are_left_out():
    got = correlation(np.array([[0.1], [0.3]]), np.array([[2.0], [1.0]]), kind="pearson")
    assert got == pytest.approx((-1.0, -1.0, -1.0))


def test_errors():
    with pytest.raises(ConfigError, match="kind: got 'kendall', expected 'pearson' or 'spearman'"):
        correlation.__wrapped__(X, Y, kind="kendall")
    with pytest.raises(DataError, match="settings: got 1, expected at least 2. Compare more"):
        correlation(X[:1], Y[:1], kind="pearson")
    with pytest.raises(DataError, match="y: got 2 in every run, expected values that vary"):
        correlation(X, np.full_like(X, 2.0), kind="pearson")
    broken = X.copy()
    broken[2, 1] = np.nan
    with pytest.raises(DataError, match=r"x: got nan at \[2, 1\], expected finite numbers"):
        correlation(broken, Y, kind="pearson")
