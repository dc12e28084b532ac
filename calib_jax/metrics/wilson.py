"""The interval of a share of successes."""

from __future__ import annotations

import numpy as np
import scipy.special
from jaxtyping import Float, Int


def wilson_interval(
    share: Float[np.ndarray, " m"], count: Int[np.ndarray, " m"], *, level: float = 0.95
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The interval in [0, 1] of a probability of which so many trials showed this share.

    `(p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)` with z the normal quantile of
    `(1 + level) / 2` (Wilson 1927); NaN without a trial.
    """
    z = float(scipy.special.ndtri((1 + level) / 2))
    trials = np.where(count > 0, count, np.nan)
    centre = share + z**2 / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z**2 / trials
    # Rounding would leave the share itself outside.
    return np.clip((centre - half) / scale, 0, share), np.clip((centre + half) / scale, share, 1)
