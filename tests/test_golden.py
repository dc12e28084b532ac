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


def test_what_lacks_image_sets_is_skipped_and_counted(tmp_path):
    """One line, and pytest's own summary stays the last."""
    missing = tmp_path / "missing"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, str(TESTS / "data" / "datasets" / "test_pacs.py"), "-k", "photo or fit"],
        cwd=TESTS.parent,
        env={**os.environ, "CALIB_JAX_IMAGE_SETS": str(missing)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    counted, last = result.stdout.rstrip().splitlines()[-2:]
    assert counted == (
        f"image sets: 1 test skipped, for want of the prepared sets: {missing} is no folder"
    )
    assert last.startswith("2 passed, 1 skipped, ")
