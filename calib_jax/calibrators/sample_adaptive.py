"""Sample-adaptive logit scaling: the logits of every example get their zero-shot range back."""

import dataclasses

import numpy as np
from jaxtyping import Float

from calib_jax.core import inputs
from calib_jax.core.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleAdaptiveScaling:
    """SaLS of Murugesan et al. 2024, "Robust Calibration of Large Vision-Language Adapters".

    arXiv 2407.13588; nothing is fitted. Applied to the logits in training, the same map is their
    ZS-Norm.
    """

    def scaled(
        self, logits: Float[np.ndarray, "n c"], zero_shot: Float[np.ndarray, "n c"]
    ) -> Float[np.ndarray, "n c"]:
        """Logits from each example's lowest to its highest zero-shot logit, in float64.

        `(l - min l) / (max l - min l) (max z - min z) + min z`, as in the authors' code.
        Predictions stay, except that a row is constant where either model's is.

        Args:
            logits: Of the fine-tuned model.
            zero_shot: Of the pre-trained model for the same images and classes.

        Raises:
            DataError: Logits that are empty or not finite, or of different shapes.
        """
        inputs.check_unlabelled(logits, name="logits")
        inputs.check_unlabelled(zero_shot, name="zero_shot")
        if logits.shape != zero_shot.shape:
            raise DataError(
                f"zero_shot: got shape {zero_shot.shape}, expected {logits.shape} as of the "
                "logits. Predict the same split with the same classes."
            )
        low = zero_shot.min(axis=1, keepdims=True).astype(np.float64)
        target = zero_shot.max(axis=1, keepdims=True) - low
        scaled = logits.astype(np.float64)
        scaled -= scaled.min(axis=1, keepdims=True)
        span = scaled.max(axis=1, keepdims=True)
        scaled *= target / np.where(span > 0, span, 1)
        scaled += low
        return scaled
