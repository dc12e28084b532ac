"""Maximum similarity."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from calib_jax.core import inputs
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score


@dataclasses.dataclass(kw_only=True)
class MaxSimilarity(Score):
    """Largest cosine `max_k s_k` of an image with a class text; higher = in-distribution.

    S_MS of Ming and Li 2024, "How Does Fine-Tuning Impact Out-of-Distribution Detection for
    Vision-Language Models?". Ranks like the maximum logit where the logit scale is shared.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"similarities"})

    def __call__(self, quantities: Quantities) -> Float[np.ndarray, " n"]:
        """One number an example, in float64."""
        return quantities.largest("similarities")


@inputs.takes_lists
def max_similarity(similarities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """`MaxSimilarity` of an array."""
    return MaxSimilarity()(Quantities(similarities=similarities))
