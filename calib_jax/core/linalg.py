"""Norms and eigenvalues whose gradients stay finite where the textbook ones do not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_EPSILON = 1e-12


def normalize(features: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Unit-norm rows in float32; a row shorter than 1e-12 becomes zero, with a zero gradient."""
    features = features.astype(jnp.float32)
    squared = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    is_zero = squared <= _EPSILON**2
    inverse = jax.lax.rsqrt(jnp.where(is_zero, 1.0, squared))
    return features * jnp.where(is_zero, 0.0, inverse)


def frobenius_norm(matrix: Float[Array, "r s"]) -> Float[Array, ""]:
    """The Frobenius norm `sqrt(sum(m ** 2))` in float32 or wider, with a zero gradient at zero."""
    squared = jnp.sum(jnp.square(matrix))
    is_zero = squared == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))


def standardize(features: Float[Array, "b d"], *, scale: bool) -> Float[Array, "b d"]:
    """Columns with mean zero and, with `scale`, variance one (a constant column becomes zero)."""
    centred = features - jnp.mean(features, axis=0, keepdims=True)
    if not scale:
        return centred
    variance = jnp.mean(jnp.square(centred), axis=0, keepdims=True)
    # Relative to the values: the mean of a large constant column is off by rounding.
    resolution = features.shape[0] * jnp.finfo(features.dtype).eps
    is_constant = variance <= resolution**2 * jnp.mean(jnp.square(features), axis=0, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.where(is_constant, 1.0, variance))
    return jnp.where(is_constant, 0.0, centred * inverse)


def second_moment(features: Float[Array, "b d"], *, scale: bool) -> Float[Array, "d d"]:
    """The covariance of the features over the batch; with `scale`, their correlation matrix.

    CaRot (arXiv 2311.01723), theorem 3.1: `E[x~ x~^T]` of the standardised
    features `x~`. It has at most b - 1 non-zero eigenvalues.
    """
    columns = standardize(features, scale=scale)
    return gram(columns) / columns.shape[0]


def gram(matrix: Float[Array, "r s"]) -> Float[Array, "s s"]:
    """`M^T M` at full precision: by default an accelerator rounds the operands to fewer bits."""
    return jnp.matmul(matrix.T, matrix, precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def smallest_eigenvalue(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    """The smallest eigenvalue of a symmetric matrix, by `eigvalsh`.

    The gradient is `mean_k v_k v_k^T` over the unit eigenvectors whose eigenvalue
    equals the smallest one within rounding: a subgradient where they coincide,
    which does not depend on the basis that the solver picked, and is always
    finite. JAX's own rule divides by the gaps between eigenvalues.
    """
    return jnp.linalg.eigvalsh(matrix)[0]


def _smallest_eigenvalue_forward(
    matrix: Float[Array, "d d"],
) -> tuple[Float[Array, ""], Float[Array, "d d"]]:
    values, vectors = jnp.linalg.eigh(matrix)
    resolution = values.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    weights = (values - values[0] <= resolution).astype(values.dtype)
    weights = weights / jnp.sum(weights)
    return values[0], (vectors * weights) @ vectors.T


def _smallest_eigenvalue_backward(
    gradient: Float[Array, "d d"], cotangent: Float[Array, ""]
) -> tuple[Float[Array, "d d"]]:
    return (cotangent * gradient,)


smallest_eigenvalue.defvjp(_smallest_eigenvalue_forward, _smallest_eigenvalue_backward)


def smallest_singular_value(matrix: Float[Array, "r s"]) -> Float[Array, ""]:
    """The smallest singular value of a tall matrix, as the root of its Gram matrix's eigenvalue.

    Under the rounding error of the eigenvalue (`4 eps ||M^T M||_F`) the root is
    continued by its tangent, so that the gradient is finite at zero and still
    points to larger values. For r < s the true value, zero, is below that bound.
    """
    square = gram(matrix)
    smallest = smallest_eigenvalue(square)
    floor = jax.lax.stop_gradient(
        4.0 * jnp.finfo(square.dtype).eps * jnp.linalg.norm(square) + _EPSILON
    )
    is_resolved = smallest > floor
    root = jnp.sqrt(jnp.where(is_resolved, smallest, floor))
    tangent = (smallest + floor) / (2.0 * jnp.sqrt(floor))
    return jnp.where(is_resolved, root, tangent)
