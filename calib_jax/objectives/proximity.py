"""The distance to the model that the training started from, in weights."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.core.trees import is_statistic, path_name
from calib_jax.core.types import Params
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def squared_distance(params: Params, start: Params) -> Float[Array, ""]:
    """`||theta - theta_0||^2` over all leaves but the statistics of batch norms."""
    squares = jax.tree_util.tree_map_with_path(
        lambda path, leaf, other: (
            jnp.zeros([]) if is_statistic(path_name(path)) else jnp.sum(jnp.square(leaf - other))
        ),
        params,
        start,
    )
    return sum(jax.tree.leaves(squares), jnp.zeros([]))


@dataclasses.dataclass(kw_only=True)
class L2SP(Term):
    """L2-SP (arXiv 1802.01483): weight decay towards the start instead of towards zero.

    `weight (||theta - theta_0||^2 + head ||w||^2) / 2`, with `theta` the encoder (frozen
    leaves add nothing) and `w` the classifier's own parameters. The paper's alpha is `weight`,
    its beta `weight * head`; it chooses alpha on validation data, so must you.

    Attributes:
        head: The share of the classifier's decay to zero. The paper's head is new and drawn at
            random; one that starts from the text tower needs no decay.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    weight: float = 0.01
    head: float = 0.0

    def validate(self) -> None:
        """Raises a ConfigError for a head's share that is negative or not finite."""
        super().validate()
        if not 0 <= self.head < math.inf:
            raise ConfigError(
                f"head: got {self.head}, expected a finite number >= 0. Use 0 for no decay."
            )

    def __call__(self, views: Views) -> Float[Array, ""]:
        """Half the squared distance, and half the head's squared norm times `head`."""
        value = squared_distance(views.params["encoder"], views.start_params["encoder"])
        if self.head:
            classifier = views.params["classifier"]
            value += self.head * squared_distance(
                classifier, jax.tree.map(jnp.zeros_like, classifier)
            )
        return 0.5 * value
