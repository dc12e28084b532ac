"""Gaussian toy data whose OOD version is known, and small networks trained on it by the dozen.

The data and objectives of CaRot's toy experiment (arXiv 2311.01723, sections 5.1 and A.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from calib_jax.objectives.cross_entropy import cross_entropy
from calib_jax.objectives.distillation import kl_divergence
from calib_jax.objectives.spectral import orthogonality_norm


class Sample(NamedTuple):
    """Inputs, their classes in {0, 1}, and the labels: the classes with some flipped."""

    inputs: Float[np.ndarray, "n i"]
    classes: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


def draw(
    rng: np.random.Generator,
    num_examples: int,
    dims: tuple[int, int, int],
    *,
    class_mean: float,
    flip_rate: float,
) -> Sample:
    """Float32 examples of two equally likely classes in the training distribution.

    Args:
        rng: Source of randomness; it moves on.
        num_examples: n.
        dims: Sizes of the blocks. The first two are N(+-class_mean, 1), the third N(0, 1).
        class_mean: Half the distance of the class means in every informative input.
        flip_rate: Probability that a label is not the class.
    """
    classes = rng.integers(2, size=num_examples, dtype=np.int32)
    flips = rng.random(num_examples) < flip_rate
    inputs = rng.standard_normal((num_examples, sum(dims)), dtype=np.float32)
    inputs[:, : dims[0] + dims[1]] += _class_means(classes, class_mean)
    return Sample(inputs, classes, classes ^ flips)


def shift(sample: Sample, dims: tuple[int, int, int], *, class_mean: float, scale: float) -> Sample:
    """The same examples OOD: block one without its class means, block two times `scale`."""
    inputs = sample.inputs.copy()
    inputs[:, : dims[0]] -= _class_means(sample.classes, class_mean)
    inputs[:, dims[0] : dims[0] + dims[1]] *= np.float32(scale)
    return sample._replace(inputs=inputs)


def _class_means(classes: Int[np.ndarray, " n"], class_mean: float) -> Float[np.ndarray, "n 1"]:
    return np.float32(class_mean) * (2 * classes[:, None] - 1).astype(np.float32)


class Layer(NamedTuple):
    """Weights of a dense layer; of many networks at once with a leading axis."""

    kernel: Float[Array | np.ndarray, "*s i o"]
    bias: Float[Array | np.ndarray, "*s o"]


class Strengths(NamedTuple):
    """Weights of the two terms; of many networks at once with a leading axis."""

    self_distillation: Float[Array | np.ndarray, "*s"]
    orthogonality: Float[Array | np.ndarray, "*s"]


def init(rng: np.random.Generator, sizes: Sequence[int]) -> tuple[Layer, ...]:
    """Kernels N(0, 1 / fan-in) and zero biases between layers of these sizes."""
    return tuple(
        Layer(
            rng.standard_normal((fan_in, fan_out), dtype=np.float32) / np.float32(fan_in) ** 0.5,
            np.zeros(fan_out, np.float32),
        )
        for fan_in, fan_out in zip(sizes, sizes[1:], strict=False)
    )


def forward(
    layers: tuple[Layer, ...], inputs: Float[Array | np.ndarray, "b i"]
) -> tuple[Float[Array, "b d"], Float[Array, "b c"]]:
    """The representation (what the last weight matrix sees, in (-1, 1)) and the class logits."""
    *hidden, last = layers
    features = jnp.asarray(inputs)
    for layer in hidden:
        features = jnp.tanh(_dense(layer, features))
    return features, _dense(last, features)


def _dense(layer: Layer, inputs: Float[Array, "b i"]) -> Float[Array, "b o"]:
    return jnp.matmul(inputs, layer.kernel, precision=jax.lax.Precision.HIGHEST) + layer.bias


def objective(
    layers: tuple[Layer, ...],
    inputs: Float[Array | np.ndarray, "b i"],
    labels: Int[Array | np.ndarray, " b"],
    teacher_logits: Float[Array | np.ndarray, "b c"],
    strengths: Strengths,
) -> Float[Array, ""]:
    """`mean CE + l_SD mean KL(teacher || network) + l_OC ||W^T W - I||_F^2` in nats.

    W [d c] is the last weight matrix; the norm is squared as in the paper's eq. 4.
    """
    _, logits = forward(layers, inputs)
    return (
        jnp.mean(cross_entropy(logits, jnp.asarray(labels)))
        + strengths.self_distillation * jnp.mean(kl_divergence(jnp.asarray(teacher_logits), logits))
        + strengths.orthogonality * jnp.square(orthogonality_norm(jnp.asarray(layers[-1].kernel)))
    )


@jax.jit
def fit(
    layers: tuple[Layer, ...],
    sample: Sample,
    teacher_logits: Float[Array | np.ndarray, "n c"],
    strengths: Strengths,
    batches: Int[Array | np.ndarray, "t b"],
    *,
    learning_rate: float | Float[Array, ""],
) -> tuple[Layer, ...]:
    """The networks that Adam makes of one start, stacked along a leading axis.

    Args:
        layers: The start.
        sample: Training examples.
        teacher_logits: Of the training examples.
        strengths: One entry a network.
        batches: The rows of the training examples that each step sees.
        learning_rate: Constant.
    """
    data = jax.tree.map(jnp.asarray, (sample.inputs, sample.labels, teacher_logits))
    tx = optax.adam(learning_rate)

    def fit_one(strength: Strengths) -> tuple[Layer, ...]:
        def step(state: Any, rows: Int[Array, " b"]) -> tuple[Any, None]:
            params, opt_state = state
            gradient = jax.grad(objective)(params, *(x[rows] for x in data), strength)
            updates, opt_state = tx.update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        start = jax.tree.map(jnp.asarray, layers)
        (params, _), _ = jax.lax.scan(step, (start, tx.init(start)), jnp.asarray(batches))
        return params

    return jax.vmap(fit_one)(strengths)


@jax.jit
def predict(
    networks: tuple[Layer, ...], inputs: Float[Array | np.ndarray, "n i"]
) -> tuple[Float[Array, "s n d"], Float[Array, "s n c"]]:
    """Representations and class logits of the stacked networks that `fit` returns."""
    return jax.vmap(forward, in_axes=(0, None))(networks, inputs)
