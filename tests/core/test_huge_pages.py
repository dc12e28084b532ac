"""A process that is started again with huge pages, once and with the arguments that it had."""

import os
import subprocess
import sys

import pytest

from calib_jax.core import huge_pages

SCRIPT = """
import os, sys
from calib_jax.core import huge_pages
huge_pages.restart()
print(os.environ["GLIBC_TUNABLES"], *sys.argv[1:], "jax" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "glibc.malloc.hugetlb=1"), ("glibc.malloc.check=1",) * 2, ("", "")],
)
def test_a_process_is_started_again(tmp_path, given, expected):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment |= {} if given is None else {"GLIBC_TUNABLES": given}
    command = [sys.executable, str(script), "two words", "*"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stderr == ""
    assert done.stdout == f"{expected} two words * False\n"


@pytest.mark.parametrize(("platform", "program"), [("darwin", sys.executable), ("linux", "")])
def test_where_it_cannot_it_is_not(monkeypatch, platform, program):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(os, "execv", None)
    huge_pages.restart()
    assert "GLIBC_TUNABLES" not in os.environ
