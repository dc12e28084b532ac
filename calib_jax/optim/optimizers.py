"""AdamW with warm-up and cosine decay, restricted to the trainable parameters."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

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
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                f"learning_rate: got {self.learning_rate}, expected a finite number > 0. Correct "
                "it; zero_shot() is a method that trains nothing."
            )
        for name in ("weight_decay", "clip_norm", "warmup_steps"):
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

    def schedule(self, num_steps: int) -> "Schedule":
        """The learning rates of a training of `num_steps`, before its first update."""
        return Schedule(
            step=np.int32(0),
            peak=np.float32(self.learning_rate),
            warmup_steps=np.int32(self.warmup_steps),
            num_steps=np.int32(num_steps),
        )


class Schedule(NamedTuple):
    """Linear warm-up to a peak, then half a cosine to zero.

    It lies in the optimizer's state: one compiled step serves every peak and every length.

    Attributes:
        step: The number of updates applied so far.
        peak: The largest learning rate.
        warmup_steps: Length of the warm-up.
        num_steps: Of the training.
    """

    step: Any
    peak: Any
    warmup_steps: Any
    num_steps: Any

    def learning_rate(self) -> Float[Array, ""]:
        """The rate of the next update."""
        warm = (self.step + 1) / jnp.maximum(self.warmup_steps, 1)
        done = (self.step - self.warmup_steps) / jnp.maximum(self.num_steps - self.warmup_steps, 1)
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        factor = jnp.where(self.step < self.warmup_steps, warm, cosine)
        return (self.peak * factor).astype(jnp.float32)


def _descend(schedule: Schedule) -> optax.GradientTransformation:
    """Minus the learning rate times the updates; the state is the schedule."""

    def init(params: Any) -> Schedule:
        return schedule

    def update(updates: Any, state: Schedule, params: Any = None) -> tuple[Any, Schedule]:
        rate = -state.learning_rate()
        scaled = jax.tree.map(lambda u: u * rate.astype(u.dtype), updates)
        return scaled, state._replace(step=state.step + 1)

    return optax.GradientTransformation(init, update)


def schedule_of(opt_state: Any) -> Schedule:
    """The schedule in the state of a chain that `make_optimizer` made."""
    return next(part for part in opt_state if isinstance(part, Schedule))


def make_optimizer(
    optimizer: AdamW,
    params: Any,
    *,
    num_steps: int,
    trainable: Sequence[str],
    teacher: Teacher | None,
) -> optax.GradientTransformation:
    """The chain: frozen leaves held still, clip, AdamW, its learning rate, teacher last.

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
            optax.chain(
                optax.scale_by_adam(b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.epsilon),
                optax.add_decayed_weights(optimizer.weight_decay),
            ),
            mask,
        ),
        _descend(optimizer.schedule(num_steps)),
    ]
    if teacher is not None:
        transforms.append(teacher.transform(num_steps))
    return optax.chain(*transforms)
