"""AdamW with warm-up and cosine decay, restricted to the trainable parameters."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from calib_jax.core.errors import ConfigError
from calib_jax.core.trees import trainable_mask
from calib_jax.optim.teacher import Teacher


@dataclasses.dataclass(kw_only=True)
class AdamW:
    """AdamW on every trainable parameter, decay included, as the authors of CaRot and FLYP have it.

    Attributes:
        learning_rate: The peak of the schedule.
        weight_decay: Decoupled decay, times the learning rate, on everything trainable
            (biases, norms and the logit scale too).
        warmup_steps: Length of the linear warm-up; its first step has `1 / warmup_steps` of
            the peak.
        clip_norm: Largest global norm of the gradient; 0 does not clip.
    """

    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    warmup_steps: int = 500
    clip_norm: float = 0.0

    def validate(self, num_steps: int) -> None:
        """Raises a ConfigError for a value out of range, or a warm-up longer than the training."""
        for name in ("learning_rate", "weight_decay", "clip_norm", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(
                    f"{name}: got {getattr(self, name)}, expected a finite number >= 0. Correct it."
                )
        for name in ("b1", "b2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(
                    f"{name}: got {getattr(self, name)}, expected a number in [0, 1). Correct it."
                )
        if not 0 < self.epsilon < math.inf:
            raise ConfigError(
                f"epsilon: got {self.epsilon}, expected a finite number > 0. Correct it."
            )
        if num_steps and self.warmup_steps >= num_steps:
            raise ConfigError(
                f"warmup_steps: got {self.warmup_steps}, expected fewer than the "
                f"{num_steps} training steps. Lower it or train longer."
            )

    def schedule(self, num_steps: int) -> optax.Schedule:
        """The learning rate at each step (the count of updates applied so far)."""

        def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
            warm = (step + 1) / max(self.warmup_steps, 1)
            done = (step - self.warmup_steps) / max(num_steps - self.warmup_steps, 1)
            cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
            factor = jnp.where(jnp.asarray(step) < self.warmup_steps, warm, cosine)
            return (self.learning_rate * factor).astype(jnp.float32)

        return learning_rate


class PeakState(NamedTuple):
    """The peak of the schedule, in the state: one compiled step serves every learning rate."""

    learning_rate: Float[Array, ""]


def _times(learning_rate: float) -> optax.GradientTransformation:
    def init(params: Any) -> PeakState:
        return PeakState(jnp.float32(learning_rate))

    def update(updates: Any, state: PeakState, params: Any = None) -> tuple[Any, PeakState]:
        return jax.tree.map(lambda u: u * state.learning_rate.astype(u.dtype), updates), state

    return optax.GradientTransformation(init, update)


def make_optimizer(
    optimizer: AdamW,
    params: Any,
    *,
    num_steps: int,
    trainable: Sequence[str],
    teacher: Teacher | None,
) -> optax.GradientTransformation:
    """The chain: frozen leaves held still, clip, AdamW, its peak learning rate, teacher last.

    Args:
        optimizer: Its settings.
        params: The tree (or its shapes) that the regexes are matched against.
        num_steps: Length of the schedules.
        trainable: Regexes on the names of the leaves; statistics of batch norms never are.
        teacher: Appended at the end of the chain, where given.

    Raises:
        ConfigError: A regex matches nothing.
    """
    mask = trainable_mask(params, trainable)
    frozen = jax.tree.map(lambda is_trainable: not is_trainable, mask)
    transforms = [
        # Frozen gradients are dropped first: they must not count in the clipped norm.
        optax.masked(optax.set_to_zero(), frozen),
        optax.clip_by_global_norm(optimizer.clip_norm) if optimizer.clip_norm else optax.identity(),
        optax.masked(
            optax.adamw(
                dataclasses.replace(optimizer, learning_rate=1.0).schedule(num_steps),
                b1=optimizer.b1,
                b2=optimizer.b2,
                eps=optimizer.epsilon,
                weight_decay=optimizer.weight_decay,
            ),
            mask,
        ),
        _times(optimizer.learning_rate),
    ]
    if teacher is not None:
        transforms.append(teacher.transform(num_steps))
    return optax.chain(*transforms)
