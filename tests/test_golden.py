"""The golden files are all there and described, and the tests that lack images say so."""

import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parent
MAX_BYTES = 12_000_000


def test_every_golden_file_is_described(golden_dir):
    readme = (golden_dir / "README.md").read_text()
    names = {path.relative_to(golden_dir).parts[0] for path in golden_dir.iterdir()}
    assert len(names) > 10
    assert [name for name in sorted(names - {"README.md"}) if f"`{name}" not in readme] == []


def test_the_golden_files_are_small(golden_dir):
    sizes = [path.stat().st_size for path in golden_dir.rglob("*") if path.is_file()]
    assert sum(sizes) < MAX_BYTES


SUITE = """
import pytest

@pytest.fixture(params=["drawn", pytest.param("prepared", marks=pytest.mark.image_sets)])
def images(request):
    return request.param

def test_images(images):
    assert images == "drawn"
"""


def test_what_lacks_image_sets_is_skipped_and_counted(tmp_path):
    """One line, and pytest's own summary stays the last."""
    missing = tmp_path / "missing"
    (tmp_path / "test_it.py").write_text(SUITE)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "image_sets", "-c", os.devnull, str(tmp_path)],
        cwd=tmp_path,
        env={
            **os.environ,
            "CALIB_JAX_IMAGE_SETS": str(missing),
            "PYTHONPATH": str(TESTS),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    counted, last = result.stdout.rstrip().splitlines()[-2:]
    assert counted == (
        f"image sets: 1 test skipped, for want of the prepared sets: {missing} is no folder"
    )
    assert last.startswith("1 passed, 1 skipped in ")
