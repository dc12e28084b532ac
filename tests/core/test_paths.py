"""Paths as people write them."""

import pathlib

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.paths import expanded


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a", field="data_dir") == tmp_path / "a"
    assert expanded(pathlib.Path("~"), field="data_dir") == tmp_path
    assert expanded("b/~c", field="data_dir") == pathlib.Path("b/~c")


def test_no_such_user():
    with pytest.raises(ConfigError, match=r"^data_dir: got '~nobodyx/a', expected .* a user that"):
        expanded("~nobodyx/a", field="data_dir")
