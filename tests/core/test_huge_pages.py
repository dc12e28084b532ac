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


@pytest.mark.parametrize("program", ["", "/no/such/python"])
def test_a_program_that_cannot_be_found_again_goes_on(monkeypatch, program):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "executable", program)
    huge_pages.restart()
    assert "GLIBC_TUNABLES" not in os.environ


@pytest.mark.parametrize(
    ("name", "value"),
    [("platform", "darwin"), ("gettrace", lambda: print)],
    ids=["mac", "debugger"],
)
def test_where_it_should_not_it_does_not(monkeypatch, name, value):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, name, value)
    monkeypatch.setattr(os, "execv", None)  # calling it would fail
    huge_pages.restart()
    assert "GLIBC_TUNABLES" not in os.environ
