"""The handwritten digits that scikit-learn ships, in many styles (see `data.builders.digits`)."""

import pathlib

from calib_jax.data.builders import digits as builder
from calib_jax.data.datasets.records import Split

CLASS_NAMES = builder.CLASS_NAMES
DOMAINS = builder.DOMAINS
TEMPLATES = builder.TEMPLATES


def prepare(data_dir: pathlib.Path, output_dir: pathlib.Path) -> None:
    """Writes all domains to `output_dir`, where they are missing."""
    builder.write_domains(output_dir)


def domain(name: str, split: str) -> Split:
    """A split (train, validation, test) of a domain: `clean` or one of DOMAINS."""
    return Split(name=f"digits/{name}", split=split)


def near_ood() -> Split:
    """The digits 8 and 9, which no split of a domain holds."""
    return Split(name="digits/near_ood", split="test")


def far_ood() -> Split:
    """Patches of photographs; no pixel of them is in the background of a digit."""
    return Split(name="digits/far_ood", split="test")
