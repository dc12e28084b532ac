"""Maximum similarity."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def max_similarity(similarities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Largest cosine `max_k s_k` of an image with a class text; higher = in-distribution.

    S_MS of Ming and Li 2024, "How Does Fine-Tuning Impact Out-of-Distribution Detection for
    Vision-Language Models?". Ranks like the maximum logit where the logit scale is shared.
    """
    return similarities.max(axis=1).astype(np.float64)
