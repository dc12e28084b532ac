"""Terms on the spectra of the projections and of the image features."""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.core.linalg import (
    Solver,
    frobenius_norm,
    gram,
    smallest_singular_value,
    standardize,
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
    """The direct constraint: minus the smallest singular value.

    Attributes:
        of: `correlation` or `covariance` of the batch's image features before
            normalisation (their singular values are their eigenvalues; CaRot's
            appendix, table A, and theorem 3.1), or the image `projection`. The feature
            matrices have rank at most b - 1: at b <= d the value and the gradient are
            zero, and nothing is computed.
        solver: see `core.linalg.smallest_singular_value`; `svd` is the exact reference.
    """

    weight: float = 1.0
    of: Literal["correlation", "covariance", "projection"] = "correlation"
    solver: Solver = "inverse_iteration"

    def validate(self) -> None:
        """Raises a ConfigError for an unknown matrix or solver."""
        super().validate()
        for name, known in (
            ("of", ("correlation", "covariance", "projection")),
            ("solver", get_args(Solver)),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(known)}. "
                    "Choose one of them."
                )

    def validate_sizes(self, *, batch_size: int, embed_dim: int) -> None:
        """Raises a ConfigError for a batch whose features cannot have full rank."""
        if self.of != "projection" and batch_size <= embed_dim:
            raise ConfigError(
                f"of: got {self.of!r} with batches of {batch_size}, whose features, {embed_dim} "
                "wide, always have a smallest singular value of zero. Set of='projection', or take "
                f"batches of more than {embed_dim}."
            )

    def __call__(self, views: Views) -> Float[Array, ""]:
        """Minus the smallest singular value."""
        if self.of == "projection":
            return -smallest_singular_value(views.image_projection, solver=self.solver)
        features = views.image_features
        size, width = features.shape
        if size <= width:
            return jnp.zeros((), features.dtype)
        columns = standardize(features, scale=self.of == "correlation")
        # The eigenvalues of X^T X / b, without the rounding error of the largest.
        return -jnp.square(smallest_singular_value(columns, solver=self.solver)) / size
