"""Eight simulated devices, run-time shape checks, and the folder with the golden files."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jaxtyping

HOOK = jaxtyping.install_import_hook("calib_jax", "beartype.beartype")
HOOK.__enter__()

import pytest

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder beside the checkout with golden outputs and prepared data sets."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with golden files and data sets")
    return SHARED
