"""What CaRot's theory looks at: the spectrum of the standardised image features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import DataError


def spectrum(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """The singular values of the correlation matrix of image features, largest first.

    CaRot (arXiv 2311.01723), theorem 3.1 and figure 6: `E[x~ x~^T]` with `x~`
    the features, each column standardised over the n examples. In float64, from
    the singular values of `x~` itself, squared and divided by n. A constant
    column counts as zero.

    Raises:
        DataError: Fewer than two examples.
    """
    if len(features) < 2:
        raise DataError(
            f"features: got {len(features)} examples, expected at least 2. Use a larger split."
        )
    columns = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    scale = columns.std(axis=0)
    # The mean of a large constant column is off by rounding.
    resolution = len(features) * np.finfo(np.float64).eps * np.abs(features).max(axis=0)
    columns = columns / np.where(scale > resolution, scale, np.inf)
    values = np.linalg.svd(columns, compute_uv=False) ** 2 / len(features)
    return np.pad(values, (0, features.shape[1] - len(values)))
