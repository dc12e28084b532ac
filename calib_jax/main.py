"""The command: `python -m calib_jax.main --config configs/quickstart.py --workdir runs/quickstart`.

Any field of the config can be set: `--config.finetune.training.num_steps=100`,
`--config.methods.carot.terms.orthogonality.weight=0.3`, `--config.seeds=0,1,2`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from calib_jax.core.errors import CalibJaxError, ConfigError, nearest
from calib_jax.experiment import Experiment
from calib_jax.run import run

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, 1 for a failed run, 2 for a wrong config."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    try:
        experiment, workdir = parse(argv)
        run(experiment, workdir)
    except CalibJaxError as error:
        print(f"calib_jax: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(argv: Sequence[str]) -> tuple[Experiment, pathlib.Path]:
    """The experiment with the overrides of the command line, and the workdir.

    Args:
        argv: The program's name and its arguments.

    Raises:
        ConfigError: An unknown flag or field, an ill-typed value, or no usable config.
    """
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=list(argv))
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=values)
    try:
        rest = values(list(argv))
        experiment = config.value
    except (flags.Error, LookupError, AttributeError, ValueError, TypeError) as error:
        raise _explain(argv, error) from error
    if len(rest) > 1:
        raise ConfigError(f"command line: got {rest[1]!r}, expected --name=value. Remove it.")
    if experiment is None:
        raise ConfigError("--config: missing. Give one, such as --config configs/quickstart.py.")
    if not isinstance(experiment, Experiment):
        raise _explain(argv, TypeError("get_config() must return an Experiment"))
    if workdir.value is None:
        raise ConfigError("--workdir: missing. Give a folder, such as --workdir runs/quickstart.")
    return experiment, pathlib.Path(workdir.value)


def _explain(argv: Sequence[str], error: Exception) -> ConfigError:
    """One line about what is wrong with a command line that could not be parsed."""
    base = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=base, sys_argv=[argv[0]])
    try:
        base([arg for arg in argv if not _OVERRIDE.match(arg)], known_only=True)
        experiment = config.value
        if isinstance(experiment, Experiment):
            for match in filter(None, map(_OVERRIDE.match, argv)):
                _check_path(experiment, match[1])
    except ConfigError as unknown_field:
        return unknown_field
    except (flags.Error, ValueError, TypeError) as broken:
        error = broken
    if not isinstance(config.value, (Experiment, type(None))):
        path = next((arg for arg in argv[1:] if not arg.startswith("--config.")), "")
        return ConfigError(f"--config: cannot be loaded ({_reason(error)}). Check {path!r}.")
    return ConfigError(f"command line: {_reason(error)}. Correct it.")


def _reason(error: Exception) -> str:
    """The last line of a message, which is the cause where it holds a whole trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


def _check_path(config: Any, path: str) -> None:
    """Raises a ConfigError where `a.b.c` names no field, with the nearest one that exists."""
    holder, walked = config, "config"
    for name in path.split("."):
        known = _fields(holder)
        if name not in known:
            raise ConfigError(
                f"--config.{path}: {walked} has no field {name!r}.{nearest(name, known)} "
                f"It has: {', '.join(known) or 'none'}."
            )
        holder, walked = known[name], f"{walked}.{name}"


def _fields(holder: Any) -> Mapping[str, Any]:
    if isinstance(holder, Mapping):
        return holder
    if dataclasses.is_dataclass(holder) and not isinstance(holder, type):
        return {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
