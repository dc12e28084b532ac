"""Maximum softmax probability."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from calib_jax.core import inputs
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score


@dataclasses.dataclass(kw_only=True)
class MSP(Score):
    """Largest softmax probability `max_k softmax(l)_k`, in [1/c, 1]; higher = in-distribution.

    Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks". On CLIP's scaled logits this is MCM at its temperature.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, quantities: Quantities) -> Float[np.ndarray, " n"]:
        """One number an example, in float64."""
        return 1 / quantities.sum_exp_from_largest("logits")


@inputs.takes_lists
def msp(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """`MSP` of an array."""
    return MSP()(Quantities(logits=logits))
