"""How images and texts move away from the start model: together, not apart."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.types import Embeddings
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def difference_vectors(
    student: Embeddings, start: Embeddings
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """DiVE's `u = f - f_0` and `v = g - g_0`: what each image and each text have moved by."""
    return student.image - start.image, student.text - start.text


def average_vector_loss(student: Embeddings, start: Embeddings) -> Float[Array, " b"]:
    """`||u - m||^2 + ||v - m||^2` of each pair, with `m` the mean of all `u` and `v` of the batch.

    DiVE's average vector loss, where `m` is a moving average over the steps. The deviations from
    the batch's own mean add up to zero: held constant or not, it has the same gradient.
    """
    moved_image, moved_text = difference_vectors(student, start)
    mean = 0.5 * jnp.mean(moved_image + moved_text, axis=0, keepdims=True)
    squares = jnp.square(moved_image - mean) + jnp.square(moved_text - mean)
    return jnp.sum(squares, axis=-1)


def pairwise_vector_loss(student: Embeddings, start: Embeddings) -> Float[Array, " b"]:
    """`||u - v||^2` of each pair: DiVE's pairwise vector loss."""
    moved_image, moved_text = difference_vectors(student, start)
    return jnp.sum(jnp.square(moved_image - moved_text), axis=-1)


@dataclasses.dataclass(kw_only=True)
class AverageVectors(Term):
    """DiVE's average term (arXiv 2511.09973), from its abstract and a reading note, not its code.

    Deviations: on the pairs of the batch, where DiVE takes those of CC3M. Against their mean, where
    DiVE has a moving average with momentum 0.99, a state that terms do not have.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained", "captions"})

    weight: float = 1000.0

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The squared distances of each pair."""
        return average_vector_loss(views.student, views.pretrained)


@dataclasses.dataclass(kw_only=True)
class PairwiseVectors(Term):
    """DiVE's pairwise term (arXiv 2511.09973), from its abstract and a reading note, not its code.

    Deviation: on the pairs of the batch, where DiVE takes those of CC3M.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained", "captions"})

    weight: float = 1000.0

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The squared distance of each pair."""
        return pairwise_vector_loss(views.student, views.pretrained)
