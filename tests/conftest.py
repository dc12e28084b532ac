"""Eight simulated devices, run-time shape checks; `shared_fixtures.py` has the fixtures."""

import os
import pathlib
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Compiling is most of the suite's time; these two make it a third.
    + " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
# What one test has compiled serves the next, other workers, and the commands that tests start.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="calib_jax_tests_", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)  # with a limit it has a lock
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jaxtyping

sys.path.append(str(pathlib.Path(__file__).parent))
HOOK = jaxtyping.install_import_hook("calib_jax", "lazy_types.lazily")
HOOK.__enter__()


def pytest_configure(config):
    """Imports the fixtures: not in the process that only hands tests to workers."""
    config.pluginmanager.import_plugin("image_sets")
    if not getattr(config.option, "numprocesses", 0) or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("shared_fixtures")


def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that no worker ends alone with it."""
    items.sort(key=lambda item: not {"integration", "runs"} & set(item.path.parts))
