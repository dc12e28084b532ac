"""Whether a calibration split shares examples with a reported one, told from the predictions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Real, UInt64

from calib_jax.core.errors import DataError
from calib_jax.core.numerics import row_blocks

MIN_DISTINCTIVE = 3
"""Values of a row that no other row has: then an equal row is no coincidence."""

MAX_LOOKED_AT = 10
"""Equal rows that are looked at one by one: each costs a pass over both arrays."""

MAX_DEVIATIONS = 3.5
"""Standard deviations by which equal rows may exceed what chance explains."""


def check_disjoint(
    held_out: Real[np.ndarray, "n c"], reported: Real[np.ndarray, "k c"], *, names: tuple[str, str]
) -> None:
    """Nothing, if the arrays share no example.

    Rows are compared in float32: a copy of another precision is a copy. An equal row is the same
    example if some of its values occur nowhere else (`MIN_DISTINCTIVE`). Coarse numbers, as those
    of two classes or of few digits, may be equal by chance; of those there must be more across the
    arrays than within them can explain (`_excess`); copies among few different rows go unnoticed.
    Predictions of certainty prove nothing.

    Raises:
        DataError: Naming the first pair.
    """
    rows, others = (np.flatnonzero(~_is_certain(values)) for values in (held_out, reported))
    hashes, other_hashes = _hashes(held_out)[rows], _hashes(reported)[others]
    shared = np.flatnonzero(np.isin(hashes, other_hashes))[:MAX_LOOKED_AT]
    if not len(shared):
        return
    is_excess = _excess(hashes, other_hashes) > MAX_DEVIATIONS
    for index in shared:
        row, match = rows[index], others[np.argmax(other_hashes == hashes[index])]
        if is_excess or _is_distinctive(held_out[row].astype(np.float32), (held_out, reported)):
            raise DataError(
                f"{names[0]}: got in row [{row}] what {names[1]} has in row [{match}], expected "
                "other examples. Fit calibrators to examples that are reported nowhere."
            )


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


def _is_distinctive(row: np.ndarray, arrays: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether enough of its largest values are in no other row of the arrays."""
    columns = np.argsort(-row, kind="stable")[:16]
    is_taken = np.zeros(len(columns), bool)
    for values in arrays:
        for rows in row_blocks(*values.shape):
            block = values[rows].astype(np.float32)
            is_other = (block != row).any(axis=1)
            is_taken |= (block[is_other][:, columns] == row[columns]).any(axis=0)
    return int((~is_taken).sum()) >= MIN_DISTINCTIVE


def _is_certain(values: np.ndarray) -> np.ndarray:
    """Which rows are a 1 among zeros."""
    return (np.count_nonzero(values, axis=1) == 1) & (values.max(axis=1) == 1)


def _hashes(values: np.ndarray) -> UInt64[np.ndarray, " n"]:
    weights = np.random.default_rng(0).integers(1 << 64, size=values.shape[1], dtype=np.uint64)
    hashes: np.ndarray = np.empty(len(values), np.uint64)
    for rows in row_blocks(*values.shape):
        rounded = values[rows].astype(np.float32) + np.float32(0)  # 0.0 for -0.0
        words = rounded.astype(np.float64).view(np.uint64)
        hashes[rows] = ((words ^ (words >> np.uint64(32))) * (weights | np.uint64(1))).sum(axis=1)
    return hashes
