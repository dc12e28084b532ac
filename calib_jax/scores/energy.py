"""Free energy, negated."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from calib_jax.core import inputs, numerics
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score


@dataclasses.dataclass(kw_only=True)
class Energy(Score):
    """Negative free energy `T log sum_k exp(l_k / T)`; higher = in-distribution.

    Liu et al. 2020, "Energy-based Out-of-distribution Detection", with the sign turned.
    The scale of the logits matters: on CLIP's scaled logits it is close to the maximum logit,
    on raw cosine similarities it is nearly their mean.

    Attributes:
        temperature: T.
    """

    temperature: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def validate(self) -> None:
        """Raises a ConfigError for a temperature that is not a finite number above 0."""
        numerics.check_temperature(self.temperature)

    def __call__(self, quantities: Quantities) -> Float[np.ndarray, " n"]:
        """One number an example, in float64."""
        sums = quantities.sum_exp_from_largest("logits", temperature=self.temperature)
        return quantities.largest("logits") + self.temperature * np.log(sums)


@inputs.takes_lists
def energy(
    logits: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """`Energy` of an array.

    Raises:
        ConfigError: A temperature that is not a finite number above 0.
    """
    return Energy(temperature=temperature)(Quantities(logits=logits))
