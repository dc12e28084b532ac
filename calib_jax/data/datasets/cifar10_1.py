"""CIFAR-10.1: new photographs, collected as CIFAR-10's; TFDS numbers its classes."""

from typing import Literal

from calib_jax.data.datasets.records import NumberedSplit


def test(version: Literal["v4", "v6"] = "v6") -> NumberedSplit:
    """CIFAR-10.1 (Recht et al., arXiv 1806.00451): v6 has 2,000 images, as many of every class."""
    return NumberedSplit(name=f"cifar10_1/{version}")
