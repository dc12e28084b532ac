"""Distillation from the EMA teacher and from the start model."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Embeddings
from calib_jax.objectives.contrastive import pair_logits
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def self_distillation_loss(student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
    """Soft cross-entropy of the student's pair distributions under the teacher's, both ways.

    `l_i = -sum_j p_ij log q_ij` over the rows plus the same over the columns,
    with `p = softmax(teacher logits)`, `q = softmax(student logits)`; each model
    uses its own logit scale and the temperature is one. The mean over the batch
    is CaRot's term as coded by its authors. The paper's eq. 6 writes the KL
    divergence, which differs by the teacher's entropy and has the same gradient.
    """
    student_logits = pair_logits(student)
    teacher_logits = pair_logits(teacher)
    loss = jnp.zeros(student_logits.shape[0], student_logits.dtype)
    for axis in (1, 0):
        target = jax.nn.softmax(teacher_logits, axis=axis)
        loss -= jnp.sum(target * jax.nn.log_softmax(student_logits, axis=axis), axis=axis)
    return loss


def kl_divergence(
    target_logits: Float[Array, "b c"], logits: Float[Array, "b c"], *, temperature: float = 1.0
) -> Float[Array, " b"]:
    """`T^2 KL(softmax(target / T) || softmax(logits / T))` of each row, in nats.

    The factor keeps the gradient's size when `T` changes (Hinton et al., arXiv 1503.02531,
    section 2).
    """
    log_target, log_probs = (
        jax.nn.log_softmax(x / temperature, axis=-1) for x in (target_logits, logits)
    )
    divergence = jnp.sum(jnp.exp(log_target) * (log_target - log_probs), axis=-1)
    return temperature**2 * divergence


@dataclasses.dataclass(kw_only=True)
class TeacherTerm(Term, abc.ABC):
    """What a student learns from the teacher of its training, on the pairs of the batch.

    Attributes:
        start_step: The first step at which the term counts; before it the value is zero.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "captions"})

    start_step: int = 1

    def validate(self) -> None:
        """Raises a ConfigError for a negative start step."""
        super().validate()
        if self.start_step < 0:
            raise ConfigError(
                f"start_step: got {self.start_step}, expected at least 0. "
                "Use 0 to count from the first step."
            )

    def check_starts(self, num_steps: int) -> None:
        """Raises a ConfigError where `start_step` comes after the last step."""
        # A try of one step keeps the default, at which nothing is to be distilled yet.
        if self.start_step >= max(num_steps, 2):
            raise ConfigError(
                f"start_step: got {self.start_step}, expected less than the {num_steps} training "
                "steps: the term would never count. Lower it, or train longer."
            )

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each pair; zero before `start_step`."""
        loss = self.loss(views.student, views.teacher)
        return jnp.where(views.step >= self.start_step, loss, 0.0)

    @abc.abstractmethod
    def loss(self, student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
        """The loss of each pair, from step 0 on."""


@dataclasses.dataclass(kw_only=True)
class SelfDistillation(TeacherTerm):
    """CaRot's self-distillation from the EMA teacher (arXiv 2311.01723, eq. 6)."""

    weight: float = 1.5

    def loss(self, student: Embeddings, teacher: Embeddings) -> Float[Array, " b"]:
        """The soft cross-entropy of each pair, in nats."""
        return self_distillation_loss(student, teacher)


@dataclasses.dataclass(kw_only=True)
class StaticDistillation(Term):
    """Distillation of the pairs from the frozen start model: CaRot's loss without its EMA.

    Attributes:
        temperature: Divides the start model's logits alone. Above 1 the student learns its order of
            the pairs, but less of its confidence.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained", "captions"})

    temperature: float = 1.0

    def validate(self) -> None:
        """Raises a ConfigError for a temperature that is not a finite number above 0."""
        super().validate()
        _check_temperature(self.temperature)

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each pair, in nats (`self_distillation_loss`)."""
        start = views.pretrained
        softened = dataclasses.replace(start, logit_scale=start.logit_scale / self.temperature)
        return self_distillation_loss(views.student, softened)


@dataclasses.dataclass(kw_only=True)
class LogitDistillation(Term):
    """Distillation of the class logits from the frozen start model, its own head included.

    Static knowledge distillation where the start is the pre-trained model, Born-Again
    (arXiv 1805.04770) where it is an earlier fit. A head without parameters runs its prompts
    through the start model's text tower at every step.

    Attributes:
        temperature: Divides the logits of both models.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    temperature: float = 1.0

    def validate(self) -> None:
        """Raises a ConfigError for a temperature that is not a finite number above 0."""
        super().validate()
        _check_temperature(self.temperature)

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The divergence of each example, in nats."""
        start = views.start_params
        head = views.classifier.head(
            start["classifier"], views.encoder, start["encoder"], views.tables.class_tokens
        )
        target = head.logits(views.pretrained_image_features)
        return kl_divergence(target, views.logits, temperature=self.temperature)


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ConfigError(
            f"temperature: got {temperature}, expected a finite number > 0. "
            "Use 1.0 to leave the logits as they are."
        )
