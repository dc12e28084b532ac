"""How closely two quantities go together over repeated runs of several settings."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

from calib_jax.core import inputs
from calib_jax.core.errors import ConfigError, DataError

Kind = Literal["pearson", "spearman"]
NUM_RESAMPLES = 2_000
KINDS: tuple[Kind, ...] = ("pearson", "spearman")


class Correlation(NamedTuple):
    """A correlation coefficient in [-1, 1] and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def correlation(
    x: Float[np.ndarray, "settings runs"],
    y: Float[np.ndarray, "settings runs"],
    *,
    kind: Kind,
) -> Correlation:
    """Pearson's r, or Spearman's rho (r of the ranks), over all runs, with a bootstrap interval.

    The interval is that of the percentiles over resampled rows (Efron and Tibshirani 1993, chapter
    13): the runs of a setting are no independent examples, so they stay together. A resample in
    which x or y does not vary says nothing and is left out.

    Raises:
      ConfigError: for an unknown kind.
      DataError: for fewer than two settings, NaN or infinity, or an x or y that does not vary.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"kind: got {kind!r}, expected 'pearson' or 'spearman'. Choose one of them."
        )
    if len(x) < 2:
        raise DataError(f"settings: got {len(x)}, expected at least 2. Compare more settings.")
    for name, values in (("x", x), ("y", y)):
        inputs.check_finite(values, name=name)
        if np.ptp(values) == 0:
            raise DataError(
                f"{name}: got {values.flat[0]:.6g} in every run, expected values that vary. "
                "Compare settings that differ."
            )
    rows = np.random.default_rng(0).integers(len(x), size=(NUM_RESAMPLES, len(x)))
    pair = (_centred(x[None], kind), _centred(y[None], kind))
    resampled = (_centred(x[rows], kind), _centred(y[rows], kind))
    low, high = np.nanquantile(_cosines(*resampled), (0.025, 0.975))
    return Correlation(float(_cosines(*pair)[0]), float(low), float(high))


def _centred(values: Float[np.ndarray, "r settings runs"], kind: str) -> Float[np.ndarray, "r n"]:
    flat = values.reshape(len(values), -1).astype(np.float64)
    if kind == "spearman":
        flat = scipy.stats.rankdata(flat, axis=1)
    # The mean of a constant row is off by rounding; that of zeros is not.
    flat = flat - flat[:, :1]
    return flat - flat.mean(axis=1, keepdims=True)


def _cosines(x: Float[np.ndarray, "r n"], y: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    """Cosines of the rows; NaN where one of them is zero."""
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    out = np.full(len(x), np.nan)
    return np.divide(np.einsum("rn,rn->r", x, y), norms, out=out, where=norms > 0)
