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
        weight: The factor of the term in the loss.
    """

    weight: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset()
    """What the term needs besides images and labels.

    `teacher`; `pretrained`, the start model; `contexts` of it; `captions` of the training images;
    `templates`, more than one, of the evaluated prompts; `images`, not their features alone.
    """

    def validate(self) -> None:
        """Raises a ConfigError for a weight that is not finite."""
        if not math.isfinite(self.weight):
            raise ConfigError(f"weight: got {self.weight}, expected a finite number. Correct it.")

    def validate_sizes(self, *, batch_size: int, embed_dim: int) -> None:
        """Raises a ConfigError where the term could only be constant."""

    def __call__(self, views: Views) -> Float[Array, ""] | Float[Array, " b"]:
        """The un-weighted value: one number, or one an example, which the step averages."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")
