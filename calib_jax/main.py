"""The command: `python -m calib_jax.main --config configs/quickstart.py --workdir runs/quickstart`.

Any field of the config can be set: `--config.finetune.training.num_steps=100`,
`--config.methods.carot.terms.orthogonality.weight=0.3`, `--config.seeds=0,1,2`.

Compiled programs are kept in `~/.cache/calib_jax/compiled`, at most 1 GiB of them, for every later
run; it may be deleted. JAX_COMPILATION_CACHE_DIR names another folder.

On Linux the process starts itself again with glibc's huge pages (GLIBC_TUNABLES), unless that
variable is set.
"""

from __future__ import annotations

from calib_jax.core import huge_pages, signals

if __name__ == "__main__":
    signals.begin()
    with signals.blocked():  # until the new process has begun
        huge_pages.restart()  # before what follows allocates anything

import errno
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from calib_jax.core import command_line
from calib_jax.core.errors import CalibJaxError, ConfigError
from calib_jax.core.paths import expanded
from calib_jax.core.printing import say
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.predictions import PredictionFiles, run_predictions
from calib_jax.runs.run import run
from calib_jax.runs.study import Study, run_study
from calib_jax.theory.experiment import Theory, run_theory

RUNNERS: dict[type, Callable[[Any, pathlib.Path], Any]] = {
    Experiment: run,
    Study: run_study,
    Theory: run_theory,
    PredictionFiles: run_predictions,
}
"""What a config file may hold, and what runs it."""

COMPILED = "~/.cache/calib_jax/compiled"
"""The folder of compiled programs."""

COMPILED_BYTES = 2**30
"""Of which the least recently used are dropped beyond this."""


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, 1 for a failed run, 2 for a wrong config, 128 + n for signal n."""
    if {"-h", "--help"} & set(argv):
        say(__doc__)
        return 0
    try:
        with signals.handled():
            config, workdir = command_line.parse(argv, RUNNERS)
            _keep_what_is_compiled()
            runner = next(run for kind, run in RUNNERS.items() if isinstance(config, kind))
            runner(config, workdir)
    except CalibJaxError as error:
        say(f"calib_jax: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        return signals.stopped_by(interrupt).report("calib_jax.main", argv[1:])
    return 0


def _keep_what_is_compiled() -> None:
    """Sets JAX's compilation cache to a folder of the user, unless the environment names one.

    Where the folder cannot be written the run works without, and one line says so.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        folder = expanded(COMPILED, field="the folder of compiled programs")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
        # What a killed process leaves half written; JAX would keep nothing any more
        # (github.com/jax-ml/jax/issues/39880).
        for path in folder.glob("*-cache"):
            if not path.with_name(f"{path.name.removesuffix('-cache')}-atime").exists():
                path.unlink(missing_ok=True)
    except (OSError, ConfigError) as error:
        say(
            f"calib_jax: {COMPILED} cannot be written ({getattr(error, 'strerror', error)}): every "
            "run will compile anew. Set JAX_COMPILATION_CACHE_DIR to a folder that can.",
            file=sys.stderr,
        )
        return
    for name, value in (("dir", str(folder)), ("max_size", COMPILED_BYTES)):
        os.environ[f"JAX_COMPILATION_CACHE_{name.upper()}"] = str(value)  # for its own processes
        jax.config.update(f"jax_compilation_cache_{name}", value)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
