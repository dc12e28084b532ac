"""Tests marked `image_sets` are skipped where there are none, and counted."""

import os
import pathlib

import pytest

IMAGE_SETS = pathlib.Path(
    os.environ.get("CALIB_JAX_IMAGE_SETS")
    or pathlib.Path(__file__).resolve().parents[2] / "shared" / "tfds"
)
LACKING = f"for want of the prepared sets: {IMAGE_SETS} is no folder"


def pytest_configure(config):
    """Declares the marker."""
    config.addinivalue_line(
        "markers",
        "image_sets: needs prepared image sets, which are no part of the repository",
    )


def pytest_runtest_setup(item):
    """Skips what is marked `image_sets` where there are none."""
    if item.get_closest_marker("image_sets") and not IMAGE_SETS.is_dir():
        pytest.skip(LACKING)


def pytest_terminal_summary(terminalreporter):
    """Counts them: one line, before pytest's own, which stays the last."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("image_sets" in report.keywords for report in skipped)
    if count:
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"image sets: {tests} skipped, {LACKING}")


@pytest.fixture(scope="session")
def image_sets() -> pathlib.Path:
    """The data_dir of prepared image sets; a test that reads it is marked `image_sets`."""
    return IMAGE_SETS
