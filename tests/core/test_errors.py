"""Exit codes, built-in bases and the nearest name."""

import pytest

from calib_jax.core import errors


@pytest.mark.parametrize(
    ("kind", "base", "exit_code"),
    [
        (errors.ConfigError, ValueError, 2),
        (errors.DataError, ValueError, 1),
        (errors.TrainingError, RuntimeError, 1),
        (errors.CheckpointError, RuntimeError, 1),
        (errors.WeightsError, ValueError, 2),
    ],
)
def test_every_error_is_a_builtin_one_too_and_has_its_exit_code(kind, base, exit_code):
    assert issubclass(kind, errors.CalibJaxError)
    assert issubclass(kind, base)
    assert kind("x").exit_code == exit_code


def test_nearest_names_the_closest_known_name():
    assert errors.nearest("corot", ["flyp", "carot"]) == " Did you mean 'carot'?"
    assert errors.nearest("carot", iter(["carot"])) == " Did you mean 'carot'?"


def test_nearest_is_silent_where_nothing_is_close():
    assert errors.nearest("xyz", ["flyp", "carot"]) == ""
    assert errors.nearest("xyz", []) == ""
    assert errors.nearest("nope", ["svhn_cropped"]) == " Did you mean 'svhn_cropped'?"
    assert errors.nearest("nope", ["svhn_cropped"], cutoff=0.7) == ""
