"""What calibrators of the single class probabilities need to become one of all classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from calib_jax.core import numerics

# As in the code of Mix-n-Match (arXiv 2003.07329): strictly increasing, and no row without mass.
SLOPE = 1e-9


def class_probs(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> Iterator[tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]]:
    """For every class its probability and whether it is the label, a class at a time."""
    largest, sums = logits.max(axis=1).astype(np.float64), numerics.sum_exp_from_max(logits)
    for k in range(logits.shape[1]):
        # As `numerics.softmax`, to the last bit: an example must find its own bin again.
        yield np.exp(logits[:, k] - largest) / sums, labels == k


def joined(
    values: Float[np.ndarray, "n c"], probs: Float[np.ndarray, "n c"]
) -> Float[np.ndarray, "n c"]:
    """Distributions `(v + 1e-9 p) / sum_k (v_k + 1e-9 p_k)`: p itself where all v are 0.

    Args:
        values: At least 0.
        probs: What they were made from.
    """
    lifted = values + SLOPE * probs
    return lifted / lifted.sum(axis=1, keepdims=True)
