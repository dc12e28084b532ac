"""Self-distillation from the EMA teacher."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.types import Embeddings
from calib_jax.objectives.contrastive import pair_logits
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def self_distillation_loss(student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
    """Soft cross-entropy of the student's pair distributions under the teacher's, both ways.

    `l_i = -sum_j p_ij log q_ij` over the rows plus the same over the columns,
    with `p = softmax(teacher logits)`, `q = softmax(student logits)`; each model
    uses its own logit scale and the temperature is one. The mean over the batch
    is CaRot's term as coded by its authors; the paper's eq. 6 writes the KL
    divergence, which differs by the teacher's entropy and has the same gradient.
    """
    student_logits = pair_logits(student)
    teacher_logits = pair_logits(teacher)
    loss = jnp.zeros(student_logits.shape[0], student_logits.dtype)
    for axis in (1, 0):
        target = jax.nn.softmax(teacher_logits, axis=axis)
        loss -= jnp.sum(target * jax.nn.log_softmax(student_logits, axis=axis), axis=axis)
    return loss


@dataclasses.dataclass(kw_only=True)
class SelfDistillation(Term):
    """CaRot's self-distillation from the EMA teacher (arXiv 2311.01723, eq. 6).

    Attributes:
        start_step: The first step at which the term counts; before it the value is zero.
    """

    weight: float = 1.5
    start_step: int = 1

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each pair, in nats; zero before `start_step`."""
        loss = self_distillation_loss(views.student, views.teacher)
        return jnp.where(views.step >= self.start_step, loss, 0.0)
