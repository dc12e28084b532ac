"""TPGM: fine-tuned weights projected onto balls around the pre-trained, with learnt radii."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.core.trees import check_same_shapes, combine, path_name
from calib_jax.core.types import Params

NORMS = ("l2", "mars")
_EPSILON = 1e-8


class Projected(NamedTuple):
    """What TPGM found.

    Attributes:
        params: The projected model.
        radii: A tree like `params` with one radius a leaf, in the units of its norm.
        losses: The held-out loss of each step, before its update.
    """

    params: Params
    radii: Any
    losses: Float[np.ndarray, " steps"]


def project(pretrained: Params, finetuned: Params, radii: Any, *, norm: str = "l2") -> Params:
    """`pretrained + min(1, radius / (|d| + 1e-8)) d` with `d = finetuned - pretrained`.

    TPGM (arXiv 2303.10720, section 3). The ratio is differentiable in the radius, also where
    it is 1 exactly.

    Args:
        pretrained: The centres.
        finetuned: What is projected.
        radii: A tree like the other two with one number >= 0 a leaf; 0 gives `pretrained`.
        norm: `l2`, of a whole leaf; or `mars`, which bounds the L1 norm of each row by itself.
            A row is what one output unit of a kernel reads, or one vector of an embedding table;
            a vector is one row.

    Raises:
        ConfigError: Models of different architectures, or an unknown norm.
    """
    _check(pretrained, finetuned, norm)

    def of_leaf(start: Any, end: Any, radius: Any, length: Any) -> Any:
        ratio = radius / (length + _EPSILON)
        # Not a minimum: its gradient would be a half where the radius is the norm itself.
        ratio = jnp.where(ratio > 1, 1.0, ratio)
        return combine(lambda a, b: a + ratio * (b - a), start, end)

    lengths = _lengths(pretrained, finetuned, norm)
    return jax.tree.map(of_leaf, pretrained, finetuned, radii, lengths)


def tpgm(
    pretrained: Params,
    finetuned: Params,
    loss: Callable[[Params, Any], Float[Array, ""]],
    batches: Iterable[Any],
    *,
    norm: str = "l2",
    learning_rate: float = 1e-2,
) -> Projected:
    """The fine-tuned model, projected with radii that minimise a held-out loss.

    TPGM (arXiv 2303.10720) as its authors apply it to CLIP: once, after fine-tuning, by Adam at
    1e-2 for 200 steps. Each radius starts at half the smallest norm in its leaf and is kept
    between 0 and the largest. Deviations: no row leaves its ball (the authors stretch rows shorter
    than the radius), and query, key and value have a radius each. The authors learn the radii on
    the split that they report, here it must be a validation split.

    Not the train step: what is learnt is one number a leaf, no term looks at views, and nothing
    is kept between runs, so a few lines of optax do.

    Args:
        pretrained: What the training started from.
        finetuned: Its result.
        loss: The mean held-out loss of parameters on a batch, traceable; it should not close over
            large arrays.
        batches: One a step: trees of arrays of the same shapes.
        norm: As `project`.
        learning_rate: Of Adam, in the units of the norm.

    Raises:
        ConfigError: As `project`, no batches, or a learning rate that is not positive.
        TrainingError: A loss that is not finite.
    """
    _check(pretrained, finetuned, norm)
    if not learning_rate > 0:
        raise ConfigError(f"learning_rate: got {learning_rate}, expected more than 0. Correct it.")
    tx = optax.adam(learning_rate)
    lengths = _lengths(pretrained, finetuned, norm)
    radii = jax.tree.map(lambda length: jnp.min(length) / 2, lengths)
    fixed = _Fixed(pretrained, finetuned, jax.tree.map(jnp.max, lengths))
    step, opt_state, history = _make_step(loss, tx, norm), tx.init(radii), []
    for batch in batches:
        radii, opt_state, measured = step(fixed, radii, opt_state, batch)
        history.append(measured)
    if not history:
        raise ConfigError("batches: got none, expected one a step. Give 200.")
    losses, norms = np.asarray(jax.device_get(history)).T
    if not np.isfinite(losses + norms).all():
        first = int(np.argmin(np.isfinite(losses + norms)))
        raise TrainingError(
            f"tpgm: got a loss of {losses[first]} and a gradient of norm {norms[first]} at step "
            f"{first}, expected finite numbers. Check the weights and the batches."
        )
    return Projected(project(pretrained, finetuned, radii, norm=norm), radii, losses)


class _Fixed(NamedTuple):
    pretrained: Params
    finetuned: Params
    largest: Any


def _make_step(
    loss: Callable[[Params, Any], Float[Array, ""]], tx: optax.GradientTransformation, norm: str
) -> Callable[..., tuple[Any, Any, tuple[Array, Array]]]:
    """A step of Adam on the radii; measures the loss and the norm of its gradient before it."""

    @jax.jit
    def step(
        fixed: _Fixed, radii: Any, opt_state: Any, batch: Any
    ) -> tuple[Any, Any, tuple[Array, Array]]:
        def of_radii(radii: Any) -> Float[Array, ""]:
            return loss(project(fixed.pretrained, fixed.finetuned, radii, norm=norm), batch)

        value, gradients = jax.value_and_grad(of_radii)(radii)
        updates, opt_state = tx.update(gradients, opt_state, radii)
        moved = optax.apply_updates(radii, updates)
        radii = jax.tree.map(lambda r, top: jnp.clip(r, 0, top), moved, fixed.largest)
        return radii, opt_state, (value, optax.tree.norm(gradients))

    return step


def _lengths(pretrained: Params, finetuned: Params, norm: str) -> Any:
    """The norm of every leaf's difference, or of its rows: broadcasts against the leaf."""

    def of_leaf(path: Any, start: Any, end: Any) -> Any:
        at_least = jnp.promote_types(start.dtype, jnp.float32)
        d = jnp.asarray(end.astype(at_least) - start.astype(at_least))
        if norm == "l2":
            return jnp.sqrt(jnp.sum(d * d))
        if d.ndim < 2:
            return jnp.sum(jnp.abs(d))
        is_kernel = path_name(path).endswith("kernel")
        axes = range(d.ndim - 1) if is_kernel else range(1, d.ndim)
        return jnp.sum(jnp.abs(d), axis=tuple(axes), keepdims=True)

    return jax.tree_util.tree_map_with_path(of_leaf, pretrained, finetuned)


def _check(pretrained: Params, finetuned: Params, norm: str) -> None:
    check_same_shapes(pretrained, finetuned, what="finetuned", like="pretrained")
    if norm not in NORMS:
        raise ConfigError(f"norm: got {norm!r}, expected one of {', '.join(NORMS)}. Correct it.")
