"""Whether a calibration split shares examples with a reported one, told from the predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Real, UInt64

from calib_jax.core.errors import DataError
from calib_jax.core.numerics import row_blocks

MIN_DISTINCTIVE = 3
"""Values of a row that no other row has: then an equal row is no coincidence."""

MAX_PAIRS_OF_TWO = 100_000
"""Pairs of rows of two classes, one number of 24 bits each, of which chance makes few equal."""

MAX_LOOKED_AT = 10
"""Pairs of equal rows that are looked at one by one: each costs a pass over both arrays."""

MAX_DEVIATIONS = 3.5
"""Standard deviations by which equal rows may exceed what chance explains."""


def check_disjoint(
    held_out: Real[np.ndarray, "n c"], reported: Mapping[str, Real[np.ndarray, "_ c"]], *, name: str
) -> None:
    """Refuses predictions that show an example which the first array shares with another.

    Rows are compared in the coarsest precision of the two arrays, float32 at most. A row that each
    holds once is the same example in both if some of its values occur nowhere else
    (`MIN_DISTINCTIVE`). Of two classes both must, with more than six decimals, and in few rows
    (`MAX_PAIRS_OF_TWO`). What trees and roundings give may be equal by chance. Of such rows there
    must be more across the arrays than within them can explain (`_excess`), so a few copies go
    unnoticed. Predictions of certainty prove nothing.

    Args:
        held_out: Logits or probabilities.
        reported: The same of other splits, by what an error calls them.
        name: What an error calls the first.

    Raises:
        DataError: Naming a pair.
    """
    known: dict[np.dtype, tuple[np.ndarray, np.ndarray]] = {}
    for other_name, other in reported.items():
        dtype = _coarsest(held_out.dtype, other.dtype)
        if dtype not in known:
            known[dtype] = _hashed(held_out, dtype)
        pair = _shared(held_out, other, known[dtype], _hashed(other, dtype), dtype)
        if pair:
            raise DataError(
                f"{name}: got in row [{pair[0]}] what {other_name} has in row [{pair[1]}], "
                "expected other examples. Fit calibrators to examples that are reported nowhere."
            )


def _shared(
    held_out: np.ndarray,
    other: np.ndarray,
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    dtype: np.dtype,
) -> tuple[int, int] | None:
    """A pair of rows that are one example, if there is one."""
    (rows, hashes), (other_rows, other_hashes) = first, second
    found, at, count = np.unique(hashes, return_index=True, return_counts=True)
    others, other_at, other_count = np.unique(other_hashes, return_index=True, return_counts=True)
    both, i, j = np.intersect1d(found, others, assume_unique=True, return_indices=True)
    if not len(both):
        return None
    pairs = np.stack([rows[at[i]], other_rows[other_at[j]]], axis=1)
    order = np.argsort(pairs[:, 0])
    if _excess(hashes, other_hashes) > MAX_DEVIATIONS:
        return tuple(pairs[order[0]].tolist())
    is_single = (count[i] == 1) & (other_count[j] == 1)
    for row, match in pairs[order[is_single[order]]][:MAX_LOOKED_AT].tolist():
        if _is_distinctive(_rounded(held_out[row], dtype), (held_out, other), dtype):
            return row, match
    return None


def _excess(first: UInt64[np.ndarray, " n"], second: UInt64[np.ndarray, " k"]) -> float:
    """How far two samples agree beyond chance, in standard deviations.

    Of t equal rows a share `p = n / (n + k)` is expected in the first, as if all rows were dealt
    at random. Summed over the distinct rows, `n_i k_i / t_i` is then `(t_i - 1) p (1 - p)` on
    average, and larger where every copy has its original in the other sample.
    """
    _, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
    in_first = np.bincount(inverse[: len(first)], minlength=inverse.max() + 1).astype(np.float64)
    total = np.bincount(inverse).astype(np.float64)
    repeated = total > 1
    t, n = total[repeated], in_first[repeated]
    share = len(first) / len(inverse)
    both = share * (1 - share)
    # Factorial moments of the binomial distribution.
    mean = t * (t - 1) * both
    square = mean * (1 + (t - 2)) + t * (t - 1) * (t - 2) * (t - 3) * both**2
    deviation = np.sqrt(((square - mean**2) / t**2).sum())
    return float(((n * (t - n) - mean) / t).sum() / deviation)


def _is_distinctive(
    row: np.ndarray, arrays: tuple[np.ndarray, np.ndarray], dtype: np.dtype
) -> bool:
    """Whether enough of its largest values are in no other row of the arrays."""
    columns = np.argsort(-row, kind="stable")[:16]
    is_taken = np.zeros(len(columns), bool)
    needed = MIN_DISTINCTIVE
    if len(row) == 2 and len(arrays[0]) * len(arrays[1]) <= MAX_PAIRS_OF_TWO:
        needed, is_taken = 2, _is_short(row[columns])
    for values in arrays:
        for rows in row_blocks(*values.shape):
            block = _rounded(values[rows], dtype)
            is_other = (block != row).any(axis=1)
            is_taken |= (block[is_other][:, columns] == row[columns]).any(axis=0)
    return int((~is_taken).sum()) >= needed


def _is_short(values: np.ndarray) -> np.ndarray:
    """Which float32 values six decimals or float16 can write."""
    decimals = values.astype(np.float64).round(6)
    return (np.abs(decimals - values) <= np.spacing(np.abs(values))) | (
        _rounded(values, np.dtype(np.float16)) == values
    )


def _coarsest(*dtypes: np.dtype) -> np.dtype:
    """The floating-point type of fewest bits, float32 at most."""
    floats = [dtype for dtype in dtypes if dtype.kind not in "iub" and dtype.itemsize < 4]
    return min(floats, key=lambda dtype: dtype.itemsize, default=np.dtype(np.float32))


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(dtype).astype(np.float32) + np.float32(0)  # 0.0 for -0.0


def _hashed(values: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, UInt64[np.ndarray, " n"]]:
    """The rows that are no certainty, a 1 among zeros, and a number for each."""
    weights = np.random.default_rng(0).integers(1 << 64, size=values.shape[1], dtype=np.uint64)
    hashes: np.ndarray = np.empty(len(values), np.uint64)
    is_certain = np.empty(len(values), bool)
    for rows in row_blocks(*values.shape):
        block = _rounded(values[rows], dtype)
        is_certain[rows] = (np.count_nonzero(block, axis=1) == 1) & (block.max(axis=1) == 1)
        words = block.astype(np.float64).view(np.uint64)
        hashes[rows] = ((words ^ (words >> np.uint64(32))) * (weights | np.uint64(1))).sum(axis=1)
    kept = np.flatnonzero(~is_certain)
    return kept, hashes[kept]
