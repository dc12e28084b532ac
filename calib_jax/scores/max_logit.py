"""Maximum logit."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def max_logit(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Largest logit `max_k l_k`; higher = in-distribution.

    Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World Settings".
    """
    return logits.max(axis=1).astype(np.float64)
