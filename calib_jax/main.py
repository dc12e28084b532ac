"""The command: `python -m calib_jax.main --config configs/quickstart.py --workdir runs/quickstart`.

Any field of the config can be set: `--config.finetune.training.num_steps=100`,
`--config.methods.carot.terms.orthogonality.weight=0.3`, `--config.seeds=0,1,2`.

Compiled programs are kept in `~/.cache/calib_jax/compiled`, at most 1 GiB of them, for every later
run; it may be deleted. JAX_COMPILATION_CACHE_DIR names another folder.

On Linux the process starts itself again with glibc's huge pages (GLIBC_TUNABLES), unless that
variable is set.
"""

from __future__ import annotations

from calib_jax.core import huge_pages

if __name__ == "__main__":
    huge_pages.restart()  # before what follows allocates anything

import ast
import dataclasses
import errno
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from calib_jax.core.errors import CalibJaxError, ConfigError, nearest
from calib_jax.core.paths import expanded
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

# A choice is a text; `settings.check_types` refuses what is none of its values.
config_flags.register_flag_parser_for_type(Literal, flags.ArgumentParser())


class _WordsParser(tuple_parser.TupleParser):  # as a TupleParser, it gets a repeated flag's values
    """Reads words with commas between, as they are or quoted as in Python."""

    def parse(self, argument: Any) -> tuple[Any, ...]:
        if not isinstance(argument, str):
            return super().parse(argument)
        try:
            value = ast.literal_eval(argument)
        except (ValueError, SyntaxError, TypeError):
            value = None
        words = (value,) if isinstance(value, str) else value
        if isinstance(words, tuple | list) and all(isinstance(word, str) for word in words):
            return tuple(words)
        words = [word.strip() for word in argument.split(",") if word.strip()]
        if "," in argument and not all(map(_is_whole, words)):
            raise ValueError(
                "a comma cuts a word, or quotes are around some words only. Quote each word, and "
                "all of them for the shell, as in \"'a','b,c'\""
            )
        return tuple(words)


def _is_whole(word: str) -> bool:
    """Whether no comma that belongs to the word can have cut it, nor quotes be left around it."""
    text = re.sub(r"\\.|(?<=\w)'(?=\w)", "", word)  # what is escaped, and apostrophes
    return (
        not text.startswith(("'", '"'))
        and all(text.count(quote) % 2 == 0 for quote in "'\"")
        and all(text.count(left) == text.count(right) for left, right in ("()", "[]", "{}"))
    )


config_flags.register_flag_parser_for_type(tuple[str, ...], _WordsParser())

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, 1 for a failed run, 2 for a wrong config."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    try:
        config, workdir = parse(argv)
        _keep_what_is_compiled()
        runner = next(run for kind, run in RUNNERS.items() if isinstance(config, kind))
        runner(config, workdir)
    except CalibJaxError as error:
        print(f"calib_jax: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("calib_jax: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
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
        print(
            f"calib_jax: {COMPILED} cannot be written ({getattr(error, 'strerror', error)}): every "
            "run will compile anew. Set JAX_COMPILATION_CACHE_DIR to a folder that can.",
            file=sys.stderr,
        )
        return
    for name, value in (("dir", str(folder)), ("max_size", COMPILED_BYTES)):
        os.environ[f"JAX_COMPILATION_CACHE_{name.upper()}"] = str(value)  # for its own processes
        jax.config.update(f"jax_compilation_cache_{name}", value)


def parse(argv: Sequence[str]) -> tuple[Any, pathlib.Path]:
    """The config with the overrides of the command line, and the workdir.

    Args:
        argv: The program's name and its arguments.

    Raises:
        ConfigError: An unknown flag or field, an ill-typed value, or no usable config.
    """
    files = flags.FlagValues()
    config = flags.DEFINE_string("config", None, "", flag_values=files)
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=files)
    overrides = [arg for arg in argv[1:] if _OVERRIDE.match(arg)]
    try:
        rest = files([arg for arg in argv if arg not in overrides])
    except flags.Error as error:
        raise ConfigError(
            f"command line: {error}. It takes --config, --workdir and --config.FIELD=VALUE."
        ) from None
    if len(rest) > 1:
        before = argv[list(argv).index(rest[1]) - 1]
        if before in overrides and "=" not in before:
            raise ConfigError(
                f"command line: got {before} {rest[1]}, expected --config.FIELD=VALUE. "
                f"Write {before}={rest[1]}."
            )
        raise ConfigError(f"command line: got {rest[1]!r}, expected --name=value. Remove it.")
    if config.value is None:
        raise ConfigError("--config: missing. Give one, such as --config configs/quickstart.py.")
    if workdir.value is None:
        raise ConfigError("--workdir: missing. Give a folder, such as --workdir runs/quickstart.")
    return _override(_load(config.value), overrides), expanded(workdir.value, field="--workdir")


def _load(value: str) -> Any:
    """What `get_config` of the file `x.py` returns; `x.py:text` passes it the text."""
    path, _, argument = value.partition(":")
    # For what lies beside the file; last, so that it hides no package. It stays: spawned processes
    # get the path as it is then, and what a study sends them may hold what the file imports.
    folder = str(pathlib.Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        namespace = runpy.run_path(path, run_name="config")
        experiment = namespace["get_config"](*([argument] if argument else []))
    except CalibJaxError:
        raise
    # The file is the user's own code, which can raise anything.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        fix = "It must be a Python file with get_config()."
        if isinstance(error, ModuleNotFoundError):
            fix = "Install that module, put it beside the file, or run from the folder it is in."
        elif isinstance(error, ImportError):
            fix = "Correct the import."
        raise ConfigError(
            f"--config: {value} cannot be loaded ({type(error).__name__}: {reason}). {fix}"
        ) from error
    if not isinstance(experiment, tuple(RUNNERS)):
        raise ConfigError(
            f"--config: get_config() of {value} gives {type(experiment).__name__}, expected "
            f"{' or '.join(kind.__name__ for kind in RUNNERS)}. Correct the file."
        )
    return experiment


def _override(experiment: Any, overrides: Sequence[str]) -> Any:
    """The config with the fields that `--config.a.b=value` names set, in place."""
    for match in filter(None, map(_OVERRIDE.match, overrides)):
        _check_path(experiment, match[1])
    values = flags.FlagValues()
    argv = ["calib_jax", *overrides]
    try:
        config = config_flags.DEFINE_config_dataclass(
            "config", experiment, flag_values=values, sys_argv=argv
        )
        values(argv)
    except (flags.Error, ValueError, TypeError) as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise ConfigError(f"command line: {reason.rstrip('.')}. Correct the value.") from error
    return config.value


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
