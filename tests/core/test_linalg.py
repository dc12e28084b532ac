"""Values against NumPy in float64, gradients against finite differences and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core import linalg

RNG = np.random.default_rng(0)


def f32(x):
    return jnp.asarray(x, jnp.float32)


def numerical_gradient(function, x, step=1e-6):
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        grad[index] = (function(up) - function(down)) / (2 * step)
    return grad


def smallest_singular(matrix):
    return np.linalg.svd(matrix, compute_uv=False)[-1]


def singular_spectrum(rows, values):
    """A float64 matrix with the given singular values."""
    u, _ = np.linalg.qr(RNG.normal(size=(rows, len(values))))
    v, _ = np.linalg.qr(RNG.normal(size=(len(values), len(values))))
    return (u * values) @ v.T


def test_normalize_has_unit_rows_in_float32():
    features = f32(RNG.normal(size=(2, 3, 5)))
    expected = features / np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(linalg.normalize(features), expected, rtol=1e-6)
    assert linalg.normalize(jnp.ones((1, 4), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("size", [0.0, 1e-13, 1e-25])
def test_normalize_maps_a_zero_row_to_zero_with_a_zero_gradient(size):
    features = jnp.array([[size, 0.0], [3.0, 4.0]])
    unit = linalg.normalize(features)
    np.testing.assert_allclose(unit, [[0.0, 0.0], [0.6, 0.8]], rtol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(linalg.normalize(x) * jnp.array([1.0, 2.0])))(features)
    np.testing.assert_array_equal(grad[0], 0.0)
    # d(u . a)/dx = (a - (u . a) u) / |x|
    expected = (np.array([1.0, 2.0]) - 2.2 * np.array([0.6, 0.8])) / 5
    np.testing.assert_allclose(grad[1], expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-11, 1e-6, 1e6, 1e12])
def test_normalize_is_finite_far_from_one(size):
    row = jnp.full((1, 2), size)
    np.testing.assert_allclose(linalg.normalize(row), np.full((1, 2), 0.5**0.5), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: linalg.normalize(x)[0, 0])(row)).all()


def test_frobenius_norm_and_its_gradient():
    matrix = f32(RNG.normal(size=(4, 3)))
    value, grad = jax.value_and_grad(linalg.frobenius_norm)(matrix)
    np.testing.assert_allclose(value, np.linalg.norm(matrix), rtol=1e-6)
    np.testing.assert_allclose(grad, matrix / np.linalg.norm(matrix), rtol=1e-5)


def test_frobenius_norm_has_a_zero_gradient_at_zero():
    value, grad = jax.value_and_grad(linalg.frobenius_norm)(jnp.zeros((3, 2)))
    assert value == 0.0
    np.testing.assert_array_equal(grad, np.zeros((3, 2)))


def test_standardize_against_numpy():
    features = f32(RNG.normal(size=(50, 4)) * [1, 10, 0.1, 1e-4] + [0, 5, -1, 0])
    wide = np.float64(features)
    centred = wide - wide.mean(0)
    got = linalg.standardize(features, scale=False)
    np.testing.assert_allclose(got, centred, rtol=1e-4, atol=2e-6)
    got = linalg.standardize(features, scale=True)
    np.testing.assert_allclose(got, centred / wide.std(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567, -1e6, 1e-7])
@pytest.mark.parametrize("rows", [1, 7, 513])
def test_a_constant_column_becomes_zero_with_a_finite_gradient(value, rows):
    features = np.full((rows, 2), value, np.float32)
    features[:, 1] = RNG.normal(size=rows)
    features = f32(features)
    got = linalg.standardize(features, scale=True)
    np.testing.assert_array_equal(got[:, 0], 0.0)
    grad = jax.grad(lambda x: jnp.sum(linalg.standardize(x, scale=True) ** 3))(features)
    assert np.isfinite(grad).all()


def test_second_moment_is_numpys_covariance_and_correlation():
    features = f32(RNG.normal(size=(40, 5)) @ RNG.normal(size=(5, 5)))
    covariance = linalg.second_moment(features, scale=False)
    np.testing.assert_allclose(covariance, np.cov(features.T, ddof=0), rtol=1e-4, atol=1e-5)
    correlation = linalg.second_moment(features, scale=True)
    np.testing.assert_allclose(correlation, np.corrcoef(features.T), rtol=1e-4, atol=1e-5)


def test_gram_against_numpy():
    matrix = f32(RNG.normal(size=(6, 3)))
    np.testing.assert_allclose(linalg.gram(matrix), matrix.T @ matrix, rtol=1e-5, atol=1e-6)


def test_smallest_eigenvalue_and_gradient_in_float64():
    root = RNG.normal(size=(6, 5))
    matrix = root.T @ root
    values, vectors = np.linalg.eigh(matrix)
    with jax.enable_x64(True):
        value, grad = jax.value_and_grad(linalg.smallest_eigenvalue)(jnp.asarray(matrix))
    np.testing.assert_allclose(value, values[0], rtol=1e-10)
    np.testing.assert_allclose(grad, np.outer(vectors[:, 0], vectors[:, 0]), atol=1e-10)


def test_gradient_through_the_correlation_is_that_of_finite_differences():
    features = RNG.normal(size=(12, 4))

    def value(x):
        return np.linalg.eigvalsh(np.corrcoef(x.T))[0]

    with jax.enable_x64(True):
        grad = jax.grad(lambda x: linalg.smallest_eigenvalue(linalg.second_moment(x, scale=True)))(
            jnp.asarray(features)
        )
    np.testing.assert_allclose(grad, numerical_gradient(value, features), rtol=1e-6, atol=1e-9)


def test_gradient_where_all_eigenvalues_coincide_is_the_identity_over_d():
    value, grad = jax.value_and_grad(linalg.smallest_eigenvalue)(3.0 * jnp.eye(5))
    np.testing.assert_allclose(value, 3.0, rtol=1e-6)
    np.testing.assert_allclose(grad, np.eye(5) / 5, atol=1e-6)


def test_gradient_of_a_double_eigenvalue_does_not_depend_on_the_basis():
    basis, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    matrix = f32((basis * [1, 1, 2, 3, 4]) @ basis.T)
    grad = jax.grad(linalg.smallest_eigenvalue)(matrix)
    np.testing.assert_allclose(grad, basis[:, :2] @ basis[:, :2].T / 2, atol=1e-5)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_rank_deficient_features_have_value_zero_and_finite_gradients(rows, scale):
    features = RNG.normal(size=(rows, 8)).astype(np.float32)
    features[:, 3] = 2.0

    def loss(x):
        return linalg.smallest_eigenvalue(linalg.second_moment(x, scale=scale))

    value, grad = jax.value_and_grad(loss)(features)
    np.testing.assert_allclose(value, 0.0, atol=1e-5)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("shape", [(9, 4), (16, 16), (70, 64)])
def test_smallest_singular_value_against_svd(shape):
    values = np.geomspace(2.0, 0.05, shape[1])
    matrix = f32(singular_spectrum(shape[0], values))
    got = linalg.smallest_singular_value(matrix)
    # The Gram matrix squares the condition: an error of a few eps * ||M^T M|| in the square.
    np.testing.assert_allclose(got, smallest_singular(matrix), rtol=2e-3)


def test_smallest_singular_value_of_a_projection_of_full_size():
    """A random matrix as large as a real projection: its smallest value is above the floor."""
    matrix = f32(RNG.normal(size=(320, 288)) / 320**0.5)
    expected = smallest_singular(np.float64(matrix))
    np.testing.assert_allclose(linalg.smallest_singular_value(matrix), expected, rtol=1e-3)


def test_smallest_singular_value_gradient_is_that_of_finite_differences():
    matrix = singular_spectrum(7, np.array([2.0, 1.5, 1.0, 0.3]))
    with jax.enable_x64(True):
        value, grad = jax.jit(jax.value_and_grad(linalg.smallest_singular_value))(matrix)
    np.testing.assert_allclose(value, smallest_singular(matrix), rtol=1e-10)
    expected = numerical_gradient(smallest_singular, matrix)
    np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)


def test_smallest_singular_value_in_float32_is_within_the_stated_error():
    """The error of the square is at most the floor 4 eps ||M^T M||_F, whatever the value."""
    for smallest in (0.3, 1e-2, 1e-3, 1e-4, 0.0):
        matrix = singular_spectrum(20, np.append(np.linspace(2.0, 1.0, 9), smallest))
        floor = 4 * np.finfo(np.float32).eps * np.linalg.norm(matrix.T @ matrix)
        got = float(linalg.smallest_singular_value(f32(matrix)))
        assert abs(got**2 - smallest**2) <= floor
        assert got >= 0.0


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_smallest_singular_value_is_finite_where_the_rank_is_deficient(shape):
    grad = jax.grad(linalg.smallest_singular_value)
    value = linalg.smallest_singular_value(jnp.zeros(shape))
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    np.testing.assert_array_equal(grad(jnp.zeros(shape)), np.zeros(shape))
    matrix = f32(np.outer(RNG.normal(size=shape[0]), RNG.normal(size=shape[1])))
    value = linalg.smallest_singular_value(matrix) / jnp.linalg.norm(matrix)
    np.testing.assert_allclose(value, 0.0, atol=1e-3)
    assert np.isfinite(grad(matrix)).all()


def test_ascent_on_the_smallest_singular_value_leaves_zero():
    """The tangent below the floor still points to larger values."""
    matrix = f32(singular_spectrum(6, np.array([1.0, 0.8, 1e-5])))
    step = jax.jit(lambda m: m + 0.02 * jax.grad(linalg.smallest_singular_value)(m))
    for _ in range(10):
        matrix = step(matrix)
    assert smallest_singular(matrix) > 0.1
