"""The command line: a config file, a workdir, and overrides of the config's fields."""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import re
import runpy
import sys
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from calib_jax.core.errors import CalibJaxError, ConfigError, nearest
from calib_jax.core.paths import expanded

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
        places = ["{}" in word for word in words]
        if argument.count("{}") == 1 and not all(places):  # one template, whose comma is its own
            return (argument.strip(),)
        if "," in argument and not (all(map(_is_whole, words)) and all(places) == any(places)):
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


def parse(argv: Sequence[str], kinds: Collection[type]) -> tuple[Any, pathlib.Path]:
    """The config with the overrides of the command line, and the workdir.

    Args:
        argv: The program's name and its arguments.
        kinds: What a config file may hold.

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
    if not workdir.value.strip():
        raise ConfigError(
            f"--workdir: got {workdir.value!r}, expected a folder. Give one, such as --workdir "
            "runs/quickstart."
        )
    return _override(_load(config.value, kinds), overrides), expanded(
        workdir.value, field="--workdir"
    )


def _load(value: str, kinds: Collection[type]) -> Any:
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
    if not isinstance(experiment, tuple(kinds)):
        raise ConfigError(
            f"--config: get_config() of {value} gives {type(experiment).__name__}, expected "
            f"{' or '.join(kind.__name__ for kind in kinds)}. Correct the file."
        )
    return experiment


def _override(experiment: Any, overrides: Sequence[str]) -> Any:
    """The config with the fields that `--config.a.b=value` names set, in place."""
    for text in overrides:
        if match := _OVERRIDE.match(text):
            held = _held(experiment, match[1])
            _check_single(held, match[1], text.partition("=")[2])
    values = flags.FlagValues()
    argv = ["calib_jax", *overrides]
    try:
        config = config_flags.DEFINE_config_dataclass(
            "config", experiment, flag_values=values, sys_argv=argv
        )
        values(argv)
    except (flags.Error, ValueError, TypeError) as error:
        reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        unsupported = re.search(r"of field (\S+) is not supported for overriding", reason)
        if unsupported:
            raise ConfigError(
                f"--{unsupported[1]}: no value of its type can be set from the command line. "
                "Change it in the config file."
            ) from None
        reason = re.sub(r"\('(Non-boolean argument to boolean flag)', '(.*)'\)", r"\1", reason)
        raise ConfigError(f"command line: {reason.rstrip('.')}. Correct the value.") from error
    return config.value


def _held(config: Any, path: str) -> Any:
    """What the config has at `a.b.c`.

    Raises:
        ConfigError: It has no such field; with the nearest one that exists.
    """
    holder, walked, kind = config, "config", ""
    for name in path.split("."):
        known = _fields(holder)
        if name not in known:
            raise ConfigError(f"--config.{path}: {_missing(holder, walked, name, kind)}")
        kind = _kind(holder, name)
        holder, walked = known[name], f"{walked}.{name}"
    return holder


def _kind(holder: Any, name: str) -> str:
    """The class that a field takes, where it takes one beside None."""
    if isinstance(holder, Mapping):
        return ""
    options = typing.get_args(typing.get_type_hints(type(holder))[name])
    return next((one.__name__ for one in options if isinstance(one, type)), "")


def _missing(holder: Any, walked: str, name: str, kind: str) -> str:
    """Why there is no field of this name, and what to do."""
    if holder is None:
        field = walked.rpartition(".")[2]
        return (
            f"{walked} is not set (None), so that it has no field {name!r}. Set it in the config "
            f"file first, as in {field}={kind}(...)."
        )
    if isinstance(holder, tuple):
        return (
            f"{walked} is a tuple of {len(holder)}, whose items have no place on the command line. "
            "Change it in the config file."
        )
    known = _fields(holder)
    if not known:
        return f"{walked} is a value, {holder!r}, and has no fields. Set it as a whole."
    listed = ", ".join(known)
    return f"{walked} has no field {name!r}.{nearest(name, known)} It has: {listed}."


def _check_single(held: Any, path: str, value: str) -> None:
    """Raises a ConfigError where what is to be set is no single value that a text can stand for."""
    of_fields = dataclasses.is_dataclass(held) and not isinstance(held, type)
    can_be_none = of_fields and value.lower() in ("none", "0", "1")  # ml_collections' switch
    if can_be_none or not (of_fields or isinstance(held, Mapping) or callable(held)):
        return
    names = list(_fields(held))
    fix = "Change it in the config file."
    if names:
        fix = f"Set one of them, as in --config.{path}.{names[0]}"
        fix += "=VALUE" if of_fields else ".FIELD=VALUE"
        fix += ", or change the config file."
    raise ConfigError(
        f"--config.{path}: got {value!r}, but it is no single value"
        f"{': it has ' + ', '.join(names) if names else ''}. {fix}"
    )


def _fields(holder: Any) -> Mapping[str, Any]:
    if isinstance(holder, Mapping):
        return holder
    if dataclasses.is_dataclass(holder) and not isinstance(holder, type):
        return {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return {}
