"""Calibrated robust fine-tuning of CLIP-like models in JAX."""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`evaluate_predictions`, imported when it is first asked for: it takes a second."""
    if name != "evaluate_predictions":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("calib_jax.evaluation.api").evaluate_predictions
