"""Maximum logit."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from calib_jax.core import inputs
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score


@dataclasses.dataclass(kw_only=True)
class MaxLogit(Score):
    """Largest logit `max_k l_k`; higher = in-distribution.

    Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World Settings".
    """

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, quantities: Quantities) -> Float[np.ndarray, " n"]:
        """One number an example, in float64."""
        return quantities.largest("logits")


@inputs.takes_lists
def max_logit(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """`MaxLogit` of an array."""
    return MaxLogit()(Quantities(logits=logits))
