"""How images and texts move away from the start model: together, not apart."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.types import Embeddings
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def pairwise_vector_loss(student: Embeddings, start: Embeddings) -> Float[Array, " b"]:
    """`||u - v||^2` of each pair, with `u` and `v` what its image and its text have moved by.

    DiVE's pairwise vector loss: `u = f - f_0`, `v = g - g_0` of the unit-norm embeddings of the
    student and of the start model.
    """
    moved_image, moved_text = student.image - start.image, student.text - start.text
    return jnp.sum(jnp.square(moved_image - moved_text), axis=-1)


@dataclasses.dataclass(kw_only=True)
class PairwiseVectors(Term):
    """DiVE's pairwise term, from a reading note of the paper, not from the paper or its code.

    Deviations: on the pairs of the batch, where DiVE takes those of CC3M; without DiVE's other
    term, the distance of both vectors to their moving average, which needs a state of its own.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    weight: float = 1000.0

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The squared distance of each pair."""
        return pairwise_vector_loss(views.student, views.pretrained)
