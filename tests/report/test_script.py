"""The script in a real browser: it sorts, and says nothing on the console."""

import pathlib
import re
import shutil
import subprocess

import pytest

from calib_jax.report import markup, script
from calib_jax.report.markup import Cell, Row

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ROWS = (
    Row("carot", [Cell("8.0 ± 0.1"), Cell("2 min", sort=120.0), Cell("✗ -2.5 [-3.0, -2.0]")]),
    Row("zero", [Cell("–"), Cell("–"), Cell("–")]),
    Row("Flyp", [Cell("10.5 ± 0.2"), Cell("3.0 s", sort=3.0), Cell("✓ +1.0")]),
    Row("group"),
    Row("flyp 10", [Cell("1"), Cell("–"), Cell("0")]),
    Row("flyp 9", [Cell("2"), Cell("–"), Cell("0")]),
)
# Column, clicks, then the names of the rows. Missing numbers last, groups apart.
CASES = (
    (0, 1, ["carot", "Flyp", "zero", "group", "flyp 9", "flyp 10"]),
    (0, 2, ["zero", "Flyp", "carot", "group", "flyp 10", "flyp 9"]),
    (1, 1, ["Flyp", "carot", "zero", "group", "flyp 9", "flyp 10"]),
    (1, 2, ["carot", "Flyp", "zero", "group", "flyp 10", "flyp 9"]),
    (2, 1, ["Flyp", "carot", "zero", "group", "flyp 10", "flyp 9"]),
    (3, 1, ["carot", "Flyp", "zero", "group", "flyp 10", "flyp 9"]),
)


def browse(path, folder):
    """The page after its scripts, and what the browser logged."""
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0"),
        *(f"--user-data-dir={folder}", "--dump-dom", path.as_uri()),
    )
    done = subprocess.run(
        [BROWSER, *flags], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, done.stderr


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH")
def test_a_click_on_a_head_sorts(tmp_path):
    # One page with a table a case: a browser takes seconds to start.
    tables = [markup.table(["method", "acc ↑", "time ↓", "gain"], ROWS) for _ in CASES]
    clicks = "".join(
        f'document.querySelectorAll("table")[{i}].querySelectorAll("th button")[{column}].click();'
        * times
        for i, (column, times, _) in enumerate(CASES)
    )
    page = markup.page("t", header="", main="".join(tables))
    path = pathlib.Path(tmp_path / "page.html")
    path.write_text(page.replace("</body>", f"<script>{clicks}</script></body>"), encoding="utf-8")
    dom, log = browse(path, tmp_path / "profile")
    assert "CONSOLE" not in log
    found = dom.split("<table>")[1:]
    assert len(found) == len(CASES)
    for text, (column, times, names) in zip(found, CASES, strict=True):
        assert re.findall(r'<th scope="row(?:group)?"[^>]*>(?:<span>)?([^<]*)<', text) == names
        falls = (column == 1) == (times == 1)
        heads = re.findall(r'<th scope="col"([^>]*)><button>', text)
        assert [i for i, head in enumerate(heads) if "aria-sort" in head] == [column]
        assert ("descending" if falls else "ascending") in heads[column]


def test_the_script_is_small_and_stays_in_its_element():
    assert len(script.SORTING.splitlines()) < 40
    assert "</" not in script.SORTING and "http" not in script.SORTING
