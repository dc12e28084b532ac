"""PACS (arXiv 1710.03077): seven classes in four domains, each domain in fixed halves."""

from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Source

CLASS_NAMES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of a {}.", "a photo of the {}.", "a good photo of a {}."),
    "art_painting": ("a painting of a {}.", "a painting of the {}."),
    "cartoon": ("a cartoon of a {}.", "a cartoon of the {}."),
    "sketch": ("a sketch of a {}.", "a sketch of the {}."),
}
"""Of each domain; those of the photographs are CLIP's."""

DOMAINS = tuple(TEMPLATES)

TRAIN, VALIDATION, TEST = (0.0, 0.4), (0.4, 0.5), (0.5, 1.0)
"""PACS has no splits of its own: shares of each domain, by a hash of the images' ids."""


def domain(name: str, share: tuple[float, float]) -> Split:
    """A share of a domain: TRAIN and VALIDATION are one half, TEST is the other."""
    return Split(name="pacs", split=name, share=share)


def source(name: str, *, repeats: int = 1) -> Source:
    """The training images of a domain with its captions."""
    return Source(split=domain(name, TRAIN), templates=TEMPLATES[name], repeats=repeats)
