"""Terms on the spectra of the projections and of the image features."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.core.linalg import (
    frobenius_norm,
    gram,
    second_moment,
    smallest_eigenvalue,
    smallest_singular_value,
)
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def orthogonality_norm(projection: Float[Array, "w d"]) -> Float[Array, ""]:
    """`||W^T W - I||_F`: how far the columns of a projection are from orthonormal."""
    return frobenius_norm(gram(projection) - jnp.eye(projection.shape[1], dtype=projection.dtype))


@dataclasses.dataclass(kw_only=True)
class OrthogonalProjection(Term):
    """CaRot's constraint on the image projection.

    Attributes:
        squared: False: the Frobenius norm, as coded by the authors. True: its
            square, as printed in eq. 4 of arXiv 2311.01723. The two are different
            objectives at the same weight.
    """

    weight: float = 0.2
    squared: bool = False

    def __call__(self, views: Views) -> Float[Array, ""]:
        """`||W_v^T W_v - I||_F`, or its square."""
        norm = orthogonality_norm(views.image_projection)
        return jnp.square(norm) if self.squared else norm


@dataclasses.dataclass(kw_only=True)
class CrossProjection(Term):
    """The norm of the product of both projections, as coded by CaRot's authors.

    The paper's eq. 5 has the square, times rho / 2, as its general regulariser,
    and gives no rho; the code has the norm with the factor 0.05.
    """

    weight: float = 0.05

    def __call__(self, views: Views) -> Float[Array, ""]:
        """`||W_v W_l^T||_F`."""
        product = jnp.matmul(
            views.image_projection, views.text_projection.T, precision=jax.lax.Precision.HIGHEST
        )
        return frobenius_norm(product)


@dataclasses.dataclass(kw_only=True)
class SmallestSingularValue(Term):
    """The direct constraint: minus the smallest singular value, by exact eigenvalues.

    Attributes:
        of: `correlation` or `covariance` of the batch's image features before
            normalisation (their singular values are their eigenvalues; CaRot's
            appendix, table A, and theorem 3.1), or the image `projection` (the root
            of the smallest eigenvalue of its Gram matrix). The feature matrices have
            rank at most b - 1: at b <= d the value and the gradient are zero.
    """

    weight: float = 1.0
    of: Literal["correlation", "covariance", "projection"] = "correlation"

    def validate(self) -> None:
        """Raises a ConfigError for an unknown matrix."""
        super().validate()
        known = ("correlation", "covariance", "projection")
        if self.of not in known:
            raise ConfigError(
                f"of: got {self.of!r}, expected one of {', '.join(known)}. Choose one of them."
            )

    def __call__(self, views: Views) -> Float[Array, ""]:
        """Minus the smallest singular value."""
        if self.of == "projection":
            return -smallest_singular_value(views.image_projection)
        return -smallest_eigenvalue(
            second_moment(views.image_features, scale=self.of == "correlation")
        )
