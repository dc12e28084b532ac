"""DomainNet (Peng et al., arXiv 1812.01754), cleaned: 345 classes in six domains."""

import importlib.resources

from calib_jax.data.datasets.records import Split

DOMAINS = ("real", "painting", "clipart", "quickdraw", "infograph", "sketch")

CLASS_NAMES = tuple(
    (importlib.resources.files("calib_jax.data") / "assets" / "domainnet_class_names.txt")
    .read_text(encoding="utf-8")
    .splitlines()
)


def domain(name: str, split: str = "test") -> Split:
    """A split of a domain, `train` or `test`, as its authors divide it."""
    return Split(name=f"domainnet/{name}", split=split)
