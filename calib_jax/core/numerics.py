"""Float64 softmax arithmetic on the host, for whole splits.

Reductions work through blocks of rows, so a float32 split of n x c logits is never
copied whole into float64.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from calib_jax.core import errors

# 8 MiB of float64: large enough to hide the Python loop, small enough for the cache.
BLOCK_ELEMENTS = 1 << 20


def row_blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Slices that cover all rows in order, each of about `BLOCK_ELEMENTS` elements."""
    step = max(1, BLOCK_ELEMENTS // max(1, num_columns))
    return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))


def softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Class probabilities in float64; every row sums to 1.

    `exp(l_k - max l) / sum_j exp(l_j - max l)`: finite for finite logits of any span.
    """
    probs = logits.astype(np.float64)
    probs -= probs.max(axis=1, keepdims=True)
    np.exp(probs, out=probs)
    probs /= probs.sum(axis=1, keepdims=True)
    return probs


def log_softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Log probabilities in float64, in nats; finite where the probability underflows."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def check_temperature(temperature: float) -> None:
    """Refuses a temperature that nothing can be divided by.

    Raises:
      ConfigError: if it is not a finite number above 0.
    """
    if not 0 < temperature < math.inf:
        raise errors.ConfigError(
            f"temperature: got {temperature}, expected a finite number above 0. "
            "Use 1.0 to leave the logits as they are."
        )


def max_and_sum_exp(
    logits: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Of every row the maximum, and `sum_k exp((l_k - max l) / T)` in [1, c]; in float64.

    The inverse of the sum is the largest softmax probability and its logarithm the stable part of
    logsumexp, without the cancellation of `exp(max - logsumexp)`. One pass, by all processors.

    Raises:
      ConfigError: if `temperature` is not a finite number above 0.
    """
    check_temperature(temperature)
    num_rows, num_columns = logits.shape
    largest, sums = np.empty(num_rows), np.empty(num_rows)

    def fill(rows: slice) -> None:
        block = logits[rows].astype(np.float64)
        largest[rows] = block.max(axis=1)
        block -= largest[rows, None]
        if temperature != 1:
            block /= temperature
        sums[rows] = np.exp(block, out=block).sum(axis=1)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, row_blocks(num_rows, num_columns)))
    return largest, sums


def sum_exp_from_max(
    logits: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Row sums `sum_k exp((l_k - max l) / T)`, as `max_and_sum_exp` has them."""
    return max_and_sum_exp(logits, temperature=temperature)[1]


def logsumexp(
    logits: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Smooth maximum `T log sum_k exp(l_k / T)` of every row, in float64.

    Raises:
      ConfigError: if `temperature` is not a finite number above 0.
    """
    largest, sums = max_and_sum_exp(logits, temperature=temperature)
    return largest + temperature * np.log(sums)


def spread(num_examples: int, limit: int | None = None) -> Int[np.ndarray, " n"]:
    """All indices of a split, or `limit` of them at even distances."""
    count = num_examples if limit is None else min(limit, num_examples)
    return np.arange(count) * num_examples // max(count, 1)
