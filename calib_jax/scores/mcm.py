"""Maximum concept matching."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from calib_jax.core import inputs, numerics
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score


@dataclasses.dataclass(kw_only=True)
class MCM(Score):
    """Largest probability `max_k softmax(s / T)_k`, in [1/c, 1]; higher = in-distribution.

    Ming et al. 2022, "Delving into Out-of-Distribution Detection with Vision-Language
    Representations". The similarities s are cosines of image and class texts, NOT multiplied
    by CLIP's logit scale. At T = 1 that makes another detector; T = 0.01 is MSP on CLIP's
    logits at its scale of 100.

    Attributes:
        temperature: T.
    """

    temperature: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"similarities"})

    def validate(self) -> None:
        """Raises a ConfigError for a temperature that is not a finite number above 0."""
        numerics.check_temperature(self.temperature)

    def __call__(self, quantities: Quantities) -> Float[np.ndarray, " n"]:
        """One number an example, in float64."""
        temperature = self.temperature
        return 1 / quantities.sum_exp_from_largest("similarities", temperature=temperature)


@inputs.takes_lists
def mcm(
    similarities: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """`MCM` of an array.

    Raises:
        ConfigError: A temperature that is not a finite number above 0.
    """
    return MCM(temperature=temperature)(Quantities(similarities=similarities))
