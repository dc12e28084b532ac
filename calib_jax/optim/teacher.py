"""The EMA teacher of CaRot, kept in the optax state."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from calib_jax.core.errors import ConfigError


class TeacherState(NamedTuple):
    """The state of the transform.

    Attributes:
        params: The teacher's parameters.
        step: The number of updates seen.
    """

    params: Any
    step: Int[Array, ""]


@dataclasses.dataclass(kw_only=True)
class EmaTeacher:
    """An exponential moving average of the student, updated every few steps.

    As coded by CaRot's authors (arXiv 2311.01723, section 4.2 and A.3): after the
    optimizer's step t, if `t % update_every == 0` (step 0 included),
    `teacher <- m_t teacher + (1 - m_t) student`, with `m_t` rising linearly from
    `initial_momentum` to `final_momentum` over the first `ramp_fraction` of all
    steps. The teacher starts as a copy of the initial student.
    """

    initial_momentum: float = 0.05
    final_momentum: float = 0.9
    ramp_fraction: float = 0.2
    update_every: int = 500

    def validate(self) -> None:
        """Raises a ConfigError for a momentum or a ramp outside 0..1, or a period below one."""
        for name in ("initial_momentum", "final_momentum", "ramp_fraction"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name}: got {value}, expected a number in 0..1. Correct it.")
        if self.update_every < 1:
            raise ConfigError(
                f"update_every: got {self.update_every}, expected at least 1. "
                "Set it to 1 to update at every step."
            )

    def momentum(self, step: Int[Array, ""] | int, num_steps: int) -> Float[Array, ""]:
        """The momentum `m_t` at an update at step t of `num_steps`."""
        ramp = self.ramp_fraction * num_steps
        rise = (self.final_momentum - self.initial_momentum) / max(ramp, 1e-9)
        return jnp.where(
            jnp.asarray(step) < ramp, self.initial_momentum + rise * step, self.final_momentum
        ).astype(jnp.float32)

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """The teacher as the last transform of a chain: passes the updates on and follows them.

        It must stand last, because the student after the step is `params + updates`.
        """

        def init(params: Any) -> TeacherState:
            # A copy: the student's buffers are donated to the next step.
            return TeacherState(
                params=jax.tree.map(jnp.array, params), step=jnp.zeros([], jnp.int32)
            )

        def update(
            updates: Any, state: TeacherState, params: Any = None
        ) -> tuple[Any, TeacherState]:
            if params is None:
                raise ValueError("the EMA teacher needs params: tx.update(grads, state, params)")
            student = optax.apply_updates(params, updates)
            is_due = state.step % self.update_every == 0
            momentum = self.momentum(state.step, num_steps)
            blend = optax.incremental_update(student, state.params, 1.0 - momentum)
            # A choice, not a momentum of one: zero times a NaN of the student would be a NaN.
            teacher = jax.tree.map(
                lambda new, old: jnp.where(is_due, new.astype(old.dtype), old), blend, state.params
            )
            return updates, TeacherState(params=teacher, step=state.step + 1)

        return optax.GradientTransformation(init, update)


def teacher_params(opt_state: Any) -> Any:
    """The teacher's parameters in the optimizer state, or None where the method has no teacher."""
    last = opt_state[-1]
    return last.params if isinstance(last, TeacherState) else None
