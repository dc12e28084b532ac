"""Values against NumPy in float64, gradients against finite differences and closed forms."""

import functools

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


@functools.partial(jax.jit, static_argnames="solver")
def value_and_gradient(matrix, solver="inverse_iteration"):
    return jax.value_and_grad(lambda m: linalg.smallest_singular_value(m, solver=solver))(matrix)


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


def test_gram_against_numpy():
    matrix = f32(RNG.normal(size=(6, 3)))
    np.testing.assert_allclose(linalg.gram(matrix), matrix.T @ matrix, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", ["inverse_iteration", "svd"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (72, 64)])
def test_smallest_singular_value_against_svd(shape, solver):
    matrix = f32(singular_spectrum(shape[0], np.geomspace(2.0, 0.05, shape[1])))
    got = value_and_gradient(matrix, solver=solver)[0]
    np.testing.assert_allclose(got, smallest_singular(np.float64(matrix)), rtol=2e-5)


@pytest.mark.parametrize("solver", ["inverse_iteration", "svd"])
def test_smallest_singular_value_gradient_is_that_of_finite_differences(solver):
    matrix = singular_spectrum(5, np.array([2.0, 1.0, 0.3]))
    with jax.enable_x64(True):
        value, grad = value_and_gradient(matrix, solver=solver)
    np.testing.assert_allclose(value, smallest_singular(matrix), rtol=1e-10)
    expected = numerical_gradient(smallest_singular, matrix)
    np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)


def test_gradient_of_a_wide_matrix_is_that_of_finite_differences():
    """More columns than the subspace of the solver has vectors."""
    matrix = singular_spectrum(37, np.append(np.linspace(2.0, 1.0, 35), 0.1))
    with jax.enable_x64(True):
        value, grad = value_and_gradient(matrix)
    np.testing.assert_allclose(value, smallest_singular(matrix), rtol=1e-10)
    expected = numerical_gradient(smallest_singular, matrix)
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("smallest", [0.3, 1e-2, 1e-3, 1e-4, 1e-6, 0.0])
def test_float32_keeps_the_error_of_the_value_and_not_of_its_square(smallest):
    """`eigvalsh` of the Gram matrix is off by 100 % at 1e-4; here the error is eps ||M||."""
    values = np.append(np.linspace(2.0, 1.0, 63), smallest)
    matrix = f32(singular_spectrum(72, values))
    u, exact, v = np.linalg.svd(np.float64(matrix))
    got, grad = value_and_gradient(matrix)
    assert abs(got - exact[-1]) <= 4 * np.finfo(np.float32).eps * exact[0]
    if smallest >= 1e-4:
        np.testing.assert_allclose(grad, np.outer(u[:, 63], v[63]), atol=2e-3)


def test_small_values_are_told_apart_under_the_error_of_the_gram_matrix():
    values = np.append(np.linspace(2.0, 1.0, 56), 1e-4 * np.arange(8, 0, -1))
    matrix = f32(singular_spectrum(72, values))
    u, exact, v = np.linalg.svd(np.float64(matrix))
    got, grad = value_and_gradient(matrix)
    np.testing.assert_allclose(got, exact[-1], rtol=1e-2)
    assert u[:, 63] @ np.float64(grad) @ v[63] > 0.999 * np.linalg.norm(grad)


def test_a_dense_spectrum_is_met_from_above():
    """All 64 values within 5 %: 32 vectors do not separate them, and need not."""
    matrix = f32(singular_spectrum(72, np.linspace(1.05, 1.0, 64)))
    exact = smallest_singular(np.float64(matrix))
    got, grad = value_and_gradient(matrix)
    assert -1e-6 < got / exact - 1 < 0.01
    assert smallest_singular(np.float64(matrix + 1e-3 * grad)) > exact


def test_a_projection_of_full_size():
    matrix = f32(RNG.normal(size=(320, 288)) / 320**0.5)
    got, grad = value_and_gradient(matrix)
    u, exact, v = np.linalg.svd(np.float64(matrix))
    np.testing.assert_allclose(got, exact[-1], rtol=1e-4)
    assert u[:, 287] @ np.float64(grad) @ v[287] > 0.999


@pytest.mark.parametrize("solver", ["inverse_iteration", "svd"])
def test_gradient_of_a_double_value_does_not_depend_on_the_basis(solver):
    u, v = np.linalg.qr(RNG.normal(size=(5, 3)))[0], np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    grad = value_and_gradient(f32((u * [1, 1, 2]) @ v.T), solver=solver)[1]
    np.testing.assert_allclose(grad, u[:, :2] @ v[:, :2].T / 2, atol=1e-5)


def test_gradient_where_more_values_coincide_than_the_subspace_has_vectors():
    value, grad = value_and_gradient(3.0 * jnp.eye(72, 64))
    np.testing.assert_allclose(value, 3.0, rtol=1e-6)
    # The mean of 32 projectors on orthogonal directions.
    singular = np.linalg.svd(grad, compute_uv=False)
    np.testing.assert_allclose(singular, np.where(np.arange(64) < 32, 1 / 32, 0.0), atol=1e-5)
    np.testing.assert_allclose(np.trace(grad), 1.0, rtol=1e-5)


@pytest.mark.parametrize("solver", ["inverse_iteration", "svd"])
@pytest.mark.parametrize("shape", [(5, 3), (72, 64)])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_deficient_rank_has_value_zero_and_finite_gradients(shape, rank, solver):
    factors = RNG.normal(size=(shape[0], rank)), RNG.normal(size=(rank, shape[1]))
    matrix = f32(factors[0] @ factors[1])
    value, grad = value_and_gradient(matrix, solver=solver)
    assert 0.0 <= value <= 1e-6 * np.linalg.norm(matrix)
    assert np.isfinite(grad).all()
    assert rank or not grad.any()


@pytest.mark.parametrize("shape", [(3, 5), (1, 2)])
def test_a_matrix_with_fewer_rows_than_columns_has_value_and_gradient_zero(shape):
    value, grad = jax.value_and_grad(linalg.smallest_singular_value)(jnp.ones(shape))
    assert value == 0.0
    np.testing.assert_array_equal(grad, np.zeros(shape))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_jit_and_scale_change_nothing(scale):
    matrix = f32(scale * singular_spectrum(72, np.geomspace(2.0, 0.05, 64)))
    got, grad = value_and_gradient(matrix)
    np.testing.assert_allclose(got, smallest_singular(np.float64(matrix)), rtol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(grad), 1.0, rtol=1e-5)
    np.testing.assert_allclose(linalg.smallest_singular_value(matrix), got, rtol=1e-5)


def test_ascent_on_the_smallest_singular_value_leaves_zero():
    matrix = f32(singular_spectrum(5, np.array([1.0, 0.8, 1e-5])))
    for _ in range(10):
        matrix = matrix + 0.02 * value_and_gradient(matrix)[1]
    assert smallest_singular(matrix) > 0.1
