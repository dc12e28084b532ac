"""Calibrated robust fine-tuning of CLIP-like models in JAX."""

import importlib as _importlib
import typing as _typing

from calib_jax.core.version import __version__ as __version__

if _typing.TYPE_CHECKING:
    from calib_jax.evaluation.api import evaluate_predictions

__all__ = ["__version__", "evaluate_predictions"]


def __getattr__(name: str) -> _typing.Any:
    """`evaluate_predictions`, imported when it is first asked for: it takes a second."""
    if name != "evaluate_predictions":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _importlib.import_module("calib_jax.evaluation.api").evaluate_predictions


def __dir__() -> list[str]:
    """The public names, and the packages that are loaded."""
    return sorted(name for name in {*globals(), *__all__} if name in __all__ or name[0] != "_")
