"""The symmetric contrastive loss of CLIP."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from calib_jax.core.types import Embeddings
from calib_jax.objectives.cross_entropy import check_label_smoothing
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


def contrastive_loss(
    embeddings: Embeddings,
    *,
    label_smoothing: float = 0.0,
    labels: Int[Array, " b"] | None = None,
) -> Float[Array, " b"]:
    """InfoNCE of each pair: the mean of its image-to-text and text-to-image cross-entropies.

    `l_i = -(log softmax(z_i.)_i + log softmax(z_.i)_i) / 2` with the logits `z`
    of `pair_logits`; the mean over the batch is CLIP's loss (arXiv 2103.00020)
    and FLYP's (arXiv 2212.00638).

    Args:
        embeddings: Of the pairs.
        label_smoothing: The share of each target that is spread evenly over the
            pairs that count in its softmax, in both directions, as the code of CaRot's
            authors has it.
        labels: The class of each pair: another pair of the same class is then left out of the
            softmax. None: it is a negative, as in the authors' code.
    """
    logits = pair_logits(embeddings)
    own = jnp.eye(logits.shape[0], dtype=bool)
    counts = jnp.ones_like(own)
    if labels is not None:
        counts = own | (labels[:, None] != labels[None, :])
        logits = jnp.where(counts, logits, -jnp.inf)
    image_to_text, text_to_image = (
        _log_likelihood(jax.nn.log_softmax(logits, axis=axis), counts, axis, label_smoothing)
        for axis in (1, 0)
    )
    return -0.5 * (image_to_text + text_to_image)


def _log_likelihood(
    log_probs: Float[Array, "b b"], counts: Bool[Array, "b b"], axis: int, label_smoothing: float
) -> Float[Array, " b"]:
    own = jnp.diagonal(log_probs)
    if not label_smoothing:
        return own
    # Not `mean(where=)`: 0 * -inf.
    spread = jnp.sum(jnp.where(counts, log_probs, 0.0), axis=axis) / jnp.sum(counts, axis=axis)
    return (1 - label_smoothing) * own + label_smoothing * spread


@dataclasses.dataclass(kw_only=True)
class Contrastive(Term):
    """The symmetric InfoNCE loss of the student on the batch's image-caption pairs.

    Attributes:
        label_smoothing: The share of each target that is spread evenly over the batch.
        mask_duplicates: Whether other pairs of the same class are left out of the softmax. By
            default they are negatives, as in FLYP's and CaRot's code.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"captions"})

    label_smoothing: float = 0.0
    mask_duplicates: bool = False

    def validate(self) -> None:
        """Raises a ConfigError for a label smoothing outside [0, 1)."""
        super().validate()
        check_label_smoothing(self.label_smoothing)

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each pair, in nats."""
        return contrastive_loss(
            views.student,
            label_smoothing=self.label_smoothing,
            labels=views.labels if self.mask_duplicates else None,
        )
