"""The version is said once, and the citation agrees."""

import pathlib
import re

import calib_jax
from calib_jax.core.version import __version__


def test_the_version_is_the_citations():
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert calib_jax.__version__ == __version__
    citation = pathlib.Path(__file__).parents[2] / "CITATION.cff"
    assert f"\nversion: {__version__}\n" in citation.read_text(encoding="utf-8")
