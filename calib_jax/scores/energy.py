"""Free energy, negated."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from calib_jax.core import numerics


def energy(
    logits: Float[np.ndarray, "n c"], *, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Negative free energy `T log sum_k exp(l_k / T)`; higher = in-distribution.

    Liu et al. 2020, "Energy-based Out-of-distribution Detection", with the sign turned.
    The scale of the logits matters: on CLIP's scaled logits it is close to the maximum logit,
    on raw cosine similarities it is nearly their mean.

    Raises:
      ConfigError: if `temperature` is not a finite number above 0.
    """
    return numerics.logsumexp(logits, temperature=temperature)
