"""The JSON files beside weights, each field checked as it is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib_jax.core import manifests, text_files
from calib_jax.core.errors import WeightsError, nearest


@dataclass(frozen=True)
class Fields:
    """A JSON object.

    Attributes:
        values: Its fields.
        file: What the errors call the file.
        path: Where in the file the object is: empty, or ending with a dot.
        defaults: What stands in for the fields that it leaves out.
    """

    values: Mapping[str, Any]
    file: str
    path: str = ""
    defaults: Mapping[str, Any] | None = None

    def get(self, name: str) -> Any:
        """Returns the value as it is, or its default, or None."""
        value = self.values.get(name)
        return (self.defaults or {}).get(name) if value is None else value

    def integer(self, name: str) -> int:
        """Returns a whole number of at least 1."""
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(name, "a whole number of at least 1")
        return value

    def number(self, name: str) -> float:
        """Returns a finite number above 0."""
        value = self.get(name)
        if not _is_number(value) or value <= 0:
            raise self.error(name, "a finite number above 0")
        return float(value)

    def triple(
        self, name: str, default: tuple[float, float, float], *, or_one: bool = False
    ) -> tuple[float, float, float]:
        """Returns the numbers of red, green and blue; the default where there is no such field.

        Args:
            name: Of the field.
            default: What stands in for it.
            or_one: Whether one number may stand for all three.
        """
        value = self.get(name)
        if value is None:
            return default
        if or_one and _is_number(value):
            value = [value] * 3
        if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
            raise self.error(name, "three finite numbers")
        red, green, blue = map(float, value)
        return red, green, blue

    def one_of(self, name: str, allowed: Iterable[Any]) -> Any:
        """Returns a value that is one of those allowed."""
        value, allowed = self.get(name), list(allowed)
        if value not in allowed:
            raise self.error(name, " or ".join(map(repr, allowed)))
        return value

    def inner(self, name: str, defaults: Mapping[str, Any] | None = None) -> Fields:
        """Returns an object within this one; empty where there is none."""
        value = self.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error(name, "an object")
        return Fields(value, self.file, f"{self.path}{name}.", defaults)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Passes when all fields are known; others may change the model in ways not ours."""
        known = set(known)
        for name, value in self.values.items():
            if name not in known and value is not None:
                raise WeightsError(
                    f"{self.file}: {self.path}{name}: got {value!r}, expected no such field: this "
                    f"library cannot express it.{nearest(name, known)} Choose another checkpoint."
                )

    def error(self, name: str, expected: str) -> WeightsError:
        """The error of a field that is not what is expected."""
        return WeightsError(
            f"{self.file}: {self.path}{name}: got {self.get(name)!r}, expected {expected}. "
            "Choose a checkpoint that this library can express."
        )


def read_fields(path: Path) -> Fields:
    """Returns the fields of a JSON file.

    Raises:
        WeightsError: It is missing, holds no JSON object, or differs from its checksum.
    """
    manifests.check([path], error=WeightsError)
    try:
        values = text_files.parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"weights: got no file {path}, expected one. Download it.") from None
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"weights: got {path}, which is damaged ({error}), expected JSON. Download it again."
        ) from error
    if not isinstance(values, dict):
        raise WeightsError(
            f"weights: got {path} with a {type(values).__name__}, expected a JSON object. "
            "Download it again."
        )
    return Fields(values, str(path))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
