"""The base of every term of a loss."""

import dataclasses

from jaxtyping import Array, Float

from calib_jax.objectives.views import Views


@dataclasses.dataclass(kw_only=True)
class Term:
    """One summand of the loss.

    Attributes:
        weight: The factor of the term in the loss.
    """

    weight: float = 1.0

    def __call__(self, views: Views) -> Float[Array, ""] | Float[Array, " b"]:
        """The un-weighted value: one number, or one an example, which the step averages."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")
