"""Maximum concept matching."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from calib_jax.core import numerics


def mcm(
    similarities: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Largest probability `max_k softmax(s / T)_k`, in [1/c, 1]; higher = in-distribution.

    Ming et al. 2022, "Delving into Out-of-Distribution Detection with Vision-Language
    Representations". `similarities` are cosines of image and class texts, NOT multiplied
    by CLIP's logit scale: at T = 1 that makes another detector (T = 0.01 is MSP on CLIP's
    logits at its scale of 100).

    Raises:
      ConfigError: if `temperature` is not a finite number above 0.
    """
    return 1 / numerics.sum_exp_from_max(similarities, temperature=temperature)
