"""Configs as dictionaries, their differences, and the type of every kind of field."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from calib_jax.core import settings
from calib_jax.core.errors import ConfigError


@dataclasses.dataclass(kw_only=True)
class Inner:
    weight: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(kw_only=True)
class Special(Inner):
    scale: tuple[float, float] = (0.5, 1.0)


@dataclasses.dataclass(kw_only=True)
class Outer:
    steps: int = 3
    name: str = "x"
    flag: bool = False
    names: tuple[str, ...] = ("p", "q")
    inner: Inner = dataclasses.field(default_factory=Inner)
    optional: Inner | None = None
    terms: dict[str, Inner] = dataclasses.field(default_factory=dict)
    style: Callable[[int], int] | None = None
    anything: Any = None


def double(x):
    return 2 * x


def test_to_dict_is_json_with_class_and_function_names():
    config = Outer(inner=Special(), terms={"t": Inner(weight=2)}, style=double)
    stored = settings.to_dict(config)
    assert json.loads(json.dumps(stored)) == stored
    assert stored["()"] == "Outer"
    assert stored["inner"] == {"()": "Special", "weight": 1.0, "kind": "a", "scale": [0.5, 1.0]}
    assert stored["terms"] == {"t": {"()": "Inner", "weight": 2, "kind": "a"}}
    assert stored["style"].endswith("test_settings.double")
    assert stored["names"] == ["p", "q"]


def test_to_dict_tells_partial_functions_apart():
    first, second = (settings.to_dict(Outer(style=functools.partial(double, x))) for x in (1, 2))
    assert len(list(settings.differences(first, second))) == 1


def test_equal_configs_have_no_differences():
    assert list(settings.differences(settings.to_dict(Outer()), settings.to_dict(Outer()))) == []


def test_differences_name_every_leaf():
    old = settings.to_dict(Outer(terms={"a": Inner(), "b": Inner()}))
    new = settings.to_dict(
        Outer(steps=4, names=("p",), inner=Special(), terms={"a": Inner(weight=2.0)})
    )
    assert list(settings.differences(old, new)) == [
        "steps: 3 -> 4",
        "names: ['p', 'q'] -> ['p']",
        "inner.(): 'Inner' -> 'Special'",
        "inner.scale: 'absent' -> [0.5, 1.0]",
        "terms.a.weight: 1.0 -> 2.0",
        "terms.b: {'()': 'Inner', 'weight': 1.0, 'kind': 'a'} -> 'absent'",
    ]


def test_long_values_are_cut():
    (line,) = settings.differences({"a": "x" * 100}, {"a": "y"})
    assert line == f"a: 'x{'x' * 55}... -> 'y'"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"inner": Special(weight=1)},
        {"inner": Inner(kind="b")},
        {"optional": Inner()},
        {"terms": {"a": Inner(), "b": Special()}},
        {"style": double},
        {"style": functools.partial(double, 1)},
        {"names": ()},
        {"anything": object()},
    ],
)
def test_right_types_pass(change):
    settings.check_types(Outer(**change), Outer, "config")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3.0}, r"config.steps: got 3.0 of type float, expected int"),
        ({"steps": True}, r"config.steps: got True of type bool, expected int"),
        ({"name": 1}, r"config.name: got 1 of type int, expected str"),
        ({"flag": 1}, r"config.flag: got 1 of type int, expected bool"),
        ({"names": ["p"]}, r"config.names: got \['p'\] of type list, expected tuple"),
        ({"names": ("p", 1)}, r"config.names\[1\]: got 1 of type int, expected str"),
        ({"inner": None}, r"config.inner: got None of type NoneType, expected Inner"),
        ({"inner": Inner(weight="1")}, r"config.inner.weight: got '1' of type str, expected float"),
        ({"inner": Inner(weight=True)}, r"config.inner.weight: got True of type bool, expected fl"),
        ({"inner": Inner(kind="c")}, r"config.inner.kind: got 'c' of type str, expected 'a' or 'b"),
        ({"inner": Special(scale=(1.0,))}, r"inner.scale: got \(1.0,\) .* expected tuple of 2"),
        ({"inner": Special(scale=(1.0, "x"))}, r"inner.scale\[1\]: got 'x' of type str"),
        ({"optional": 3}, r"config.optional: got 3 of type int, expected Inner"),
        ({"optional": Inner(weight="1")}, r"config.optional.weight: got '1' of type str"),
        ({"terms": [Inner()]}, r"config.terms: got .* of type list, expected dict"),
        ({"terms": {"a": 1}}, r"config.terms.a: got 1 of type int, expected Inner. Correct the"),
        ({"terms": {1: Inner()}}, r"config.terms, key 1: got 1 of type int, expected str"),
        ({"style": "double"}, r"config.style: got 'double' of type str, expected function"),
    ],
)
def test_a_wrong_type_is_named_with_its_field(change, message):
    with pytest.raises(ConfigError, match=message):
        settings.check_types(Outer(**change), Outer, "config")


def test_without_a_prefix_fields_are_named_from_the_root():
    with pytest.raises(ConfigError, match=r"^inner.weight: got"):
        settings.check_types(Outer(inner=Inner(weight="1")), Outer, "")


def test_other_generic_types_are_checked_by_their_container():
    settings.check_types([1], Sequence[int], "x")
    settings.check_types([1], list[int], "x")
    with pytest.raises(ConfigError, match="x: got 3 of type int, expected list"):
        settings.check_types(3, list[int], "x")


def test_functions_that_look_alike_are_refused():
    with pytest.raises(ConfigError, match=r"<lambda>, expected a function defined in a module"):
        settings.to_dict({"style": lambda image: image})


@dataclasses.dataclass
class Square:
    side: int = 1


@dataclasses.dataclass
class Circle:
    radius: int = 1


@dataclasses.dataclass
class Shape:
    of: Square | Circle | None = None


def test_a_union_of_dataclasses_reports_the_field_of_the_one_that_is_there():
    settings.check_types(Shape(of=Circle()), Shape, "config")
    settings.check_types(Shape(), Shape, "config")
    with pytest.raises(
        ConfigError, match=r"config.of.radius: got 'wide' of type str, expected int"
    ):
        settings.check_types(Shape(of=Circle(radius="wide")), Shape, "config")
    with pytest.raises(ConfigError, match=r"config.of: got 3 of type int, expected Square"):
        settings.check_types(Shape(of=3), Shape, "config")


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (Outer(inner=Inner(weight=float("nan"))), "config.inner.weight"),
        (Outer(inner=Special(scale=(0.5, float("nan")))), r"config.inner.scale\[1\]"),
        (Outer(terms={"a": Inner(weight=float("nan"))}), "config.terms.a.weight"),
        (Outer(style=functools.partial(double, float("nan"))), r"config.style.args\[0\]"),
        (Outer(anything=float("nan")), "config.anything"),
    ],
)
def test_nan_is_refused_wherever_it_stands(config, where):
    message = rf"^{where}: got nan, expected a number: .* could not be resumed\. Correct it\.$"
    with pytest.raises(ConfigError, match=message):
        settings.check_numbers(settings.to_dict(config), "config")
    settings.check_numbers(settings.to_dict(Outer(anything=float("inf"))), "config")
