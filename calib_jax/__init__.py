"""Calibrated robust fine-tuning of CLIP-like models in JAX."""

__version__ = "0.1.0"
