"""The symmetric contrastive loss of CLIP."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.types import Embeddings
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def pair_logits(embeddings: Embeddings) -> Float[Array, "b b"]:
    """Scaled cosine similarities of every image (rows) with every text (columns).

    At full precision: on an accelerator the default rounds the operands to
    bfloat16, and logits of 100 would carry errors of half a unit.
    """
    similarities = jnp.matmul(
        embeddings.image, embeddings.text.T, precision=jax.lax.Precision.HIGHEST
    )
    return embeddings.logit_scale * similarities


def contrastive_loss(embeddings: Embeddings) -> Float[Array, " b"]:
    """InfoNCE of each pair: the mean of its image-to-text and text-to-image cross-entropies.

    `l_i = -(log softmax(z_i.)_i + log softmax(z_.i)_i) / 2` with the logits `z`
    of `pair_logits`; the mean over the batch is CLIP's loss (arXiv 2103.00020)
    and FLYP's (arXiv 2212.00638). A second image of the same class in the batch
    counts as a negative, as in the authors' code.
    """
    logits = pair_logits(embeddings)
    image_to_text = jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
    text_to_image = jnp.diagonal(jax.nn.log_softmax(logits, axis=0))
    return -0.5 * (image_to_text + text_to_image)


@dataclasses.dataclass(kw_only=True)
class Contrastive(Term):
    """The symmetric InfoNCE loss of the student on the batch's image-caption pairs."""

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each pair, in nats."""
        return contrastive_loss(views.student)
