"""Norms and singular values whose gradients stay finite where the textbook ones do not."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_EPSILON = 1e-12
_BLOCK, _ITERATIONS = 32, 8  # benchmarks/constraint.py has what they cost and how close they come

Solver = Literal["inverse_iteration", "svd"]


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


def gram(matrix: Float[Array, "r s"]) -> Float[Array, "s s"]:
    """`M^T M` at full precision: by default an accelerator rounds the operands to fewer bits."""
    return _product(matrix.T, matrix)


def smallest_singular_value(
    matrix: Float[Array, "r s"], *, solver: Solver = "inverse_iteration"
) -> Float[Array, ""]:
    """The smallest of the s singular values: `||M v||` at the right singular vector v.

    v is a constant of the gradient, which is `u v^T`: at the minimum over unit
    vectors the value does not change with v. JAX's own rule divides by the gaps
    between singular values. Where several are smallest within rounding, value
    and gradient are means over their vectors: a subgradient. At zero the
    gradient is zero, as it is for r < s, where the value is zero by definition.

    Args:
        matrix: in float32 or wider. A smallest value under `eps` times the largest is rounding.
        solver: `svd`: exact. `inverse_iteration`: from above, by a subspace of 32
            vectors and products of matrices; exact for s <= 32. The relative error is at
            most about `s g ** -32`, g the ratio of the 33rd smallest value to the smallest.
            Where so many are nearly the smallest, v is a mixture of their vectors.
    """
    rows, columns = matrix.shape
    if rows < columns:
        return jnp.zeros((), matrix.dtype)
    constant = jax.lax.stop_gradient(matrix)
    basis = jnp.eye(columns, dtype=matrix.dtype)
    if solver == "inverse_iteration":
        basis = _smallest_subspace(constant)
    _, values, vectors = jnp.linalg.svd(_product(constant, basis), full_matrices=False)
    resolution = 4.0 * jnp.finfo(matrix.dtype).eps * jnp.linalg.norm(constant)
    is_smallest = (values <= values[-1] + resolution).astype(matrix.dtype)
    vectors = _product(basis, vectors.T * jnp.sqrt(is_smallest / jnp.sum(is_smallest)))
    return frobenius_norm(_product(matrix, vectors))


def _smallest_subspace(matrix: Float[Array, "r s"]) -> Float[Array, "s p"]:
    """An orthonormal basis for the smallest singular vectors, by inverse iteration from noise.

    `(M^T M)^-1 = P P^T` by two passes of Cholesky QR with a shift (Fukaya et al.,
    arXiv 1809.11085): the first alone, on a Gram matrix, squares the condition
    number; `M P` is well conditioned. All is matrix products and Cholesky
    factors, which accelerators do fast, and r may be sharded.
    """
    norm = frobenius_norm(matrix)
    matrix = matrix / jnp.where(norm > 0.0, norm, 1.0)  # or the inverse of a tiny one overflows
    root = _inverse_root(gram(matrix))
    root = _product(root, _inverse_root(gram(_product(matrix, root))))
    columns = matrix.shape[1]
    noise = jax.random.normal(jax.random.key(0), (columns, min(_BLOCK, columns)), matrix.dtype)

    def iterate(_: Int[Array, ""], block: Float[Array, "s p"]) -> Float[Array, "s p"]:
        block = _product(root, _product(root.T, block))
        return block / jnp.linalg.norm(block)

    return jnp.linalg.qr(jax.lax.fori_loop(0, _ITERATIONS, iterate, noise))[0]


def _inverse_root(square: Float[Array, "s s"]) -> Float[Array, "s s"]:
    """P such that `P P^T = (G + shift I)^-1`; the shift is G's rounding error, or 1 for G = 0."""
    norm = jnp.linalg.norm(square)
    shift = jnp.where(norm > 0.0, 4.0 * jnp.finfo(square.dtype).eps * norm, 1.0)
    identity = jnp.eye(square.shape[0], dtype=square.dtype)
    lower = jax.lax.linalg.cholesky(square + shift * identity, symmetrize_input=False)
    return jax.lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True).T


def _product(a: Float[Array, "r k"], b: Float[Array, "k s"]) -> Float[Array, "r s"]:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
