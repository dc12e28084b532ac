"""The four distillation terms of TRACER (arXiv 2605.29380), as its authors code them.

`z` are the student's unit-norm embeddings and `s` its logit scale; `z'`, `s'` are the teacher's.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.types import Embeddings
from calib_jax.objectives.contrastive import pair_logits
from calib_jax.objectives.distillation import TeacherTerm, kl_divergence


def feature_distillation_loss(student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
    """FD: the squared distance of the embeddings over d, of each image plus its text.

    `l_i = (||z_i - z'_i||^2 + ||t_i - t'_i||^2) / d`: the mean over the batch is that over all
    b d entries, hence TRACER's factor of 2000.
    """
    image = jnp.mean(jnp.square(student.image - teacher.image), axis=1)
    return image + jnp.mean(jnp.square(student.text - teacher.text), axis=1)


def contrastive_relation_loss(student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
    """CRD: the KL divergence of the student's pair distributions from the teacher's, in nats.

    The mean of both directions: `KL(softmax(s' z' t'^T) || softmax(s z t^T))` of each row and
    each column. CaRot's self-distillation is twice this plus the teacher's entropies.
    """
    logits, targets = pair_logits(student), pair_logits(teacher)
    return 0.5 * (kl_divergence(targets, logits) + kl_divergence(targets.T, logits.T))


def interactive_contrast_loss(student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
    """ICL: InfoNCE of the student's embeddings against the teacher's of the other modality.

    The mean of the cross-entropies of `s z t'^T` and `s t z'^T` with the true pairs, in nats.
    """
    image_to_text, text_to_image = _cross_logits(student, teacher)
    return -0.5 * (
        jnp.diagonal(jax.nn.log_softmax(image_to_text, axis=1))
        + jnp.diagonal(jax.nn.log_softmax(text_to_image, axis=0))
    )


def cross_distillation_loss(student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
    """XKD: the KL divergence from the teacher's pair distributions of those across the two models.

    The mean of `KL(softmax(s' z' t'^T) || softmax(s z t'^T))` and
    `KL(softmax(s' t' z'^T) || softmax(s t z'^T))`, in nats.
    """
    image_to_text, text_to_image = _cross_logits(student, teacher)
    targets = pair_logits(teacher)
    return 0.5 * (kl_divergence(targets, image_to_text) + kl_divergence(targets.T, text_to_image.T))


def _cross_logits(
    student: Embeddings, teacher: Embeddings
) -> tuple[Float[Array, "b b"], Float[Array, "b b"]]:
    """`s z t'^T` and `s z' t^T`: rows are images, the scale is the student's."""
    return (
        pair_logits(dataclasses.replace(student, text=teacher.text)),
        pair_logits(dataclasses.replace(student, image=teacher.image)),
    )


@dataclasses.dataclass(kw_only=True)
class FeatureDistillation(TeacherTerm):
    """TRACER's FD: the embeddings stay near the teacher's."""

    weight: float = 0.9 * 2000

    def loss(self, student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
        """The squared distance of each pair over d."""
        return feature_distillation_loss(student, teacher)


@dataclasses.dataclass(kw_only=True)
class ContrastiveRelation(TeacherTerm):
    """TRACER's CRD: the similarities within a batch stay near the teacher's."""

    weight: float = 0.9

    def loss(self, student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
        """The divergence of each pair, in nats."""
        return contrastive_relation_loss(student, teacher)


@dataclasses.dataclass(kw_only=True)
class InteractiveContrast(TeacherTerm):
    """TRACER's ICL: the student's embeddings find their pairs among the teacher's."""

    weight: float = 0.9

    def loss(self, student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
        """The cross-entropy of each pair, in nats."""
        return interactive_contrast_loss(student, teacher)


@dataclasses.dataclass(kw_only=True)
class CrossDistillation(TeacherTerm):
    """TRACER's XKD: against the teacher's other modality, the similarities stay the teacher's."""

    weight: float = 0.9

    def loss(self, student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
        """The divergence of each pair, in nats."""
        return cross_distillation_loss(student, teacher)
