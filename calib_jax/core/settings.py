"""Configurations as plain nested dictionaries: to store, to compare, to report."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from calib_jax.core.errors import ConfigError


def to_dict(value: Any) -> Any:
    """A config as JSON values: dataclasses carry their class name, functions their full name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"()": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if isinstance(value, functools.partial):
        bound = {"args": value.args, "keywords": value.keywords}
        return {"()": "partial", "function": to_dict(value.func), **to_dict(bound)}
    if callable(value):
        name = f"{value.__module__}.{value.__qualname__}"
        if "<" in name:
            raise ConfigError(
                f"config: got {name}, expected a function defined in a module: two of them must "
                "not look the same. Move it to the top of a file."
            )
        return name
    return value


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """`field: old -> new` for every leaf in which two stored configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            where = f"{path}.{key}" if path else key
            yield from differences(old.get(key, "absent"), new.get(key, "absent"), where)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@runtime_checkable
class Root(Protocol):
    """A config that a command runs: a dataclass that knows what is wrong with itself."""

    def validate(self) -> None:
        """Raises a ConfigError for the first setting that is out of range or missing."""


def check(config: Root) -> None:
    """Raises a ConfigError for the first field of another type, that is NaN, or out of range.

    Every command begins with it: types first, so that `validate` can rely on them.
    """
    check_types(config, type(config), "config")
    check_numbers(to_dict(config), "config")
    config.validate()


def check_numbers(stored: Any, where: str) -> None:
    """Raises a ConfigError for the first number of a stored config that is none, or far too large.

    NaN is not equal to itself: no run with one could ever be resumed. No array holds a whole number
    of more than 64 bits.
    """
    if isinstance(stored, (dict, list)):
        pairs = stored.items() if isinstance(stored, dict) else enumerate(stored)
        for key, item in pairs:
            check_numbers(item, f"{where}.{key}" if isinstance(stored, dict) else f"{where}[{key}]")
    elif isinstance(stored, float) and math.isnan(stored):
        raise ConfigError(
            f"{where}: got nan, expected a number: a config with it equals none, and its run could "
            "not be resumed. Correct it."
        )
    elif isinstance(stored, int) and abs(stored) >= 2**63:
        raise ConfigError(f"{where}: got {stored}, expected less than 2^63. Correct it.")


def check_types(value: Any, hint: Any, where: str) -> None:
    """Raises a ConfigError that names the first field whose value is not of its declared type.

    An int passes for a float. Dataclasses are checked field by field.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return
    if origin is collections.abc.Callable:
        if not callable(value):
            raise _type_error(value, "function", where)
    elif origin in (typing.Union, types.UnionType):
        _check_union(value, arguments, where)
    elif origin is typing.Literal:
        if value not in arguments:
            raise _type_error(value, " or ".join(map(repr, arguments)), where)
    elif origin is tuple:
        _check_tuple(value, arguments, where)
    elif origin is dict:
        if not isinstance(value, dict):
            raise _type_error(value, "dict", where)
        for key, item in value.items():
            check_types(key, arguments[0], f"{where}, key {key!r}")
            check_types(item, arguments[1], f"{where}.{key}")
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _type_error(value, "float", where)
    elif not isinstance(value, origin or hint) or (hint is int and isinstance(value, bool)):
        raise _type_error(value, (origin or hint).__name__, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        for field in dataclasses.fields(value):
            check_types(
                getattr(value, field.name), hints[field.name], f"{where}.{field.name}".lstrip(".")
            )


def _check_union(value: Any, arguments: tuple[Any, ...], where: str) -> None:
    of_its_class = [option for option in arguments if type(value) is option]
    errors = []
    for option in of_its_class or arguments:
        try:
            return check_types(value, option, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _check_tuple(value: Any, arguments: tuple[Any, ...], where: str) -> None:
    if not isinstance(value, tuple):
        raise _type_error(value, "tuple", where)
    if len(arguments) == 2 and arguments[1] is ...:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise _type_error(value, f"tuple of {len(arguments)}", where)
    for number, (item, hint) in enumerate(zip(value, arguments, strict=True)):
        check_types(item, hint, f"{where}[{number}]")


def _type_error(value: Any, expected: str, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: got {_short(value)} of type {type(value).__name__}, expected {expected}. "
        "Correct the config."
    )
