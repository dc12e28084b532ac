"""Maximum softmax probability."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from calib_jax.core import numerics


def msp(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Largest softmax probability `max_k softmax(l)_k`, in [1/c, 1]; higher = in-distribution.

    Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks". On CLIP's scaled logits this is MCM at its temperature.
    """
    return 1 / numerics.sum_exp_from_max(logits)
