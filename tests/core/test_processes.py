"""One of several processes writes."""

import jax
import pytest

from calib_jax.core.processes import is_writer


@pytest.mark.parametrize(("index", "expected"), [(0, True), (1, False), (3, False)])
def test_the_first_process_writes(monkeypatch, index, expected):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    assert is_writer() is expected
