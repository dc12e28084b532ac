"""Calibrated robust fine-tuning of CLIP-like models in JAX."""

import importlib
from typing import Any

from calib_jax.core.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    """`evaluate_predictions`, imported when it is first asked for: it takes a second."""
    if name != "evaluate_predictions":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("calib_jax.evaluation.api").evaluate_predictions
