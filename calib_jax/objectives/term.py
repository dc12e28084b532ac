"""The base of every term of a loss."""

import dataclasses
import math
from typing import ClassVar

from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.objectives.views import Views


@dataclasses.dataclass(kw_only=True)
class Term:
    """One summand of the loss.

    Attributes:
        weight: The factor of the term in the loss, at least 0.
    """

    weight: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset()
    """What the term needs besides images and labels.

    `teacher`; `pretrained`, the start model; `contexts` of it; `captions` of the training images;
    `templates`, more than one, of the evaluated prompts; `images`, not their features alone.
    """

    def validate(self) -> None:
        """Raises a ConfigError for a weight that is negative or not finite."""
        if not 0 <= self.weight < math.inf:
            raise ConfigError(
                f"weight: got {self.weight}, expected a finite number >= 0: a negative weight "
                "rewards what the term is to keep small. Correct it; a term that is to reward "
                "something returns its negative."
            )

    def check_starts(self, num_steps: int) -> None:
        """Raises a ConfigError where the term counts at none of so many steps."""

    def validate_sizes(self, *, batch_size: int, embed_dim: int) -> None:
        """Raises a ConfigError where the term could only be constant."""

    def __call__(self, views: Views) -> Float[Array, ""] | Float[Array, " b"]:
        """The un-weighted value: one number, or one an example, which the step averages."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")
