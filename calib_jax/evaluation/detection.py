"""How well scores tell in-distribution images from those of no class."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from calib_jax.core.types import Predictions
from calib_jax.metrics.detection import detection
from calib_jax.scores.energy import energy
from calib_jax.scores.max_logit import max_logit
from calib_jax.scores.max_similarity import max_similarity
from calib_jax.scores.mcm import mcm
from calib_jax.scores.msp import msp

SCORES = {
    "msp": lambda predictions: msp(predictions.logits),
    "max_logit": lambda predictions: max_logit(predictions.logits),
    "energy": lambda predictions: energy(predictions.logits),
    "mcm": lambda predictions: mcm(predictions.similarities()),
    "max_similarity": lambda predictions: max_similarity(predictions.similarities()),
}
"""Each score of a split; higher = more in-distribution."""


def scores(split: Predictions) -> dict[str, Float[np.ndarray, " n"]]:
    """Every score of the split's examples."""
    return {name: score(split) for name, score in SCORES.items()}


def detection_metrics(id_set: Predictions, ood_set: Predictions) -> dict[str, dict[str, float]]:
    """AUROC, AUPR and FPR95 (with either class as the positive one) of each score."""
    of_ood = scores(ood_set)
    return {name: detection(one, of_ood[name]) for name, one in scores(id_set).items()}
