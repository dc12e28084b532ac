"""Teachers that follow the student, kept in the optax state."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
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


@runtime_checkable
class Teacher(Protocol):
    """A copy of the initial student, and the rule by which it follows the student."""

    def validate(self) -> None:
        """Raises a ConfigError for a setting out of range."""

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """The teacher as the last transform of a chain, for a training of `num_steps`."""


@dataclasses.dataclass(kw_only=True)
class EmaTeacher:
    """An exponential moving average of the student, updated every few steps.

    As coded by CaRot's authors (arXiv 2311.01723, section 4.2 and A.3): after the
    optimizer's step t, if `t % update_every == 0` (step 0 included),
    `teacher <- m_t teacher + (1 - m_t) student`. Here `m_t` rises linearly from
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
        if not 1 <= self.update_every < 2**31:  # the step is an int32
            raise ConfigError(
                f"update_every: got {self.update_every}, expected at least 1 and less than 2^31. "
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
        """The teacher as the last transform of a chain: passes the updates on and follows them."""

        def follow(state: TeacherState, student: Any) -> Any:
            is_due = state.step % self.update_every == 0
            momentum = self.momentum(state.step, num_steps)
            blend = optax.incremental_update(student, state.params, 1.0 - momentum)
            # A choice, not a momentum of one: zero times a NaN of the student would be a NaN.
            return jax.tree.map(
                lambda new, old: jnp.where(is_due, new.astype(old.dtype), old), blend, state.params
            )

        return _last_transform(follow)


@dataclasses.dataclass(kw_only=True)
class TrajectoryTeacher:
    """TRACER's weighted mean of every student of the trajectory, updated at every step.

    arXiv 2605.29380, as its authors code it. The student after k of T updates has the weight
    `w(k)`, the density of Beta(beta, beta) at `(k + 0.5) / (T + 1)`; k = 0 is the initial model.
    After update k, with `r = w(k) / sum_{j<k} w(j)`: `teacher <- (teacher + r student) / (1 + r)`.
    In float32, as the authors have it: at T = 25,000 the share is down to 5e-5, and where the two
    differ by less than a thousandth the teacher rests.

    Attributes:
        beta: Below one the two ends of the trajectory weigh most, so that the teacher stays
            apart from the student; at one all students weigh the same.
    """

    beta: float = 0.5

    def validate(self) -> None:
        """Raises a ConfigError for a shape of the Beta density that is not positive and finite."""
        if not 0.0 < self.beta < math.inf:
            raise ConfigError(
                f"beta: got {self.beta}, expected a finite number > 0. Set 0.5, as in the paper."
            )

    def shares(self, num_steps: int) -> Float[np.ndarray, " num_steps"]:
        """The student's share of the teacher after each update, `w(k) / sum_{j<=k} w(j)`, k >= 1.

        Summed in float64, rounded to float32: a float32 sum would drift over a long training.
        """
        position = (np.arange(num_steps + 1) + 0.5) / (num_steps + 1)
        # The density's constant cancels; scaled by its maximum, a large beta does not underflow
        # everywhere.
        log_weights = (self.beta - 1.0) * np.log(position * (1.0 - position))
        log_sums = np.logaddexp.accumulate(log_weights)
        return np.exp(log_weights - log_sums)[1:].astype(np.float32)

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """The teacher as the last transform of a chain: passes the updates on and follows them."""
        shares = self.shares(num_steps)

        def follow(state: TeacherState, student: Any) -> Any:
            share = jnp.asarray(shares)[state.step]
            # In this form a leaf that does not move is kept to the last bit.
            return jax.tree.map(
                lambda old, new: (old + share * (new - old)).astype(old.dtype),
                state.params,
                student,
            )

        return _last_transform(follow)


@dataclasses.dataclass(kw_only=True)
class FrozenTeacher:
    """The initial student, never updated: static distillation from the pre-trained model."""

    def validate(self) -> None:
        """Passes: there is nothing to set."""

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """The teacher as the last transform of a chain: passes the updates on, and stays."""
        return _last_transform(lambda state, student: state.params)


def _last_transform(
    follow: Callable[[TeacherState, Any], Any],
) -> optax.GradientTransformation:
    """The transform of a teacher whose next parameters are `follow(state, student)`.

    It must stand last, because the student after the step is `params + updates`.
    """

    def init(params: Any) -> TeacherState:
        # A copy: the student's buffers are donated to the next step.
        return TeacherState(params=jax.tree.map(jnp.array, params), step=jnp.zeros([], jnp.int32))

    def update(updates: Any, state: TeacherState, params: Any = None) -> tuple[Any, TeacherState]:
        if params is None:
            raise ValueError("the teacher needs params: tx.update(grads, state, params)")
        student = optax.apply_updates(params, updates)
        return updates, TeacherState(params=follow(state, student), step=state.step + 1)

    return optax.GradientTransformation(init, update)


def teacher_params(opt_state: Any) -> Any:
    """The teacher's parameters in the optimizer state, or None where the method has no teacher."""
    last = opt_state[-1]
    return last.params if isinstance(last, TeacherState) else None
