"""Paths as people write them."""

import pathlib

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.paths import check_names, expanded


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a", field="data_dir") == tmp_path / "a"
    assert expanded(pathlib.Path("~"), field="data_dir") == tmp_path
    assert expanded("b/~c", field="data_dir") == pathlib.Path("b/~c")


def test_no_such_user():
    with pytest.raises(ConfigError, match=r"^data_dir: got '~nobodyx/a', expected .* a user that"):
        expanded("~nobodyx/a", field="data_dir")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../b", "/x", "a//b", ".", "x" * 201, "a\0b"])
def test_names_that_no_file_could_have(name):
    with pytest.raises(ConfigError, match="^methods: got the name .* Rename it") as caught:
        check_names(["good", name], field="methods")
    assert "\n" not in str(caught.value)


def test_names_that_files_can_have():
    check_names(["digits 8 and 9", "cifar10_c/fog_1", "a.b", "..x", "naïve", "x" * 200], field="x")
