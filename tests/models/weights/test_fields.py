import pytest

from calib_jax.core.errors import WeightsError
from calib_jax.models.weights.fields import Fields, read_fields

FIELDS = Fields(
    {"n": 3, "x": 0.5, "rgb": [1, 0.5, 0], "part": {"m": True, "none": None}, "text": "a"},
    "FILE",
    defaults={"d": 7, "n": 1},
)


def test_values_and_defaults():
    assert (FIELDS.integer("n"), FIELDS.integer("d"), FIELDS.number("n")) == (3, 7, 3.0)
    assert FIELDS.triple("rgb", (0.0, 0.0, 0.0)) == (1.0, 0.5, 0.0)
    assert FIELDS.triple("absent", (0.1, 0.2, 0.3)) == (0.1, 0.2, 0.3)
    assert FIELDS.one_of("text", ["a", "b"]) == "a"
    part = FIELDS.inner("part", {"none": 4})
    assert part.integer("none") == 4
    assert FIELDS.inner("absent").values == {}
    part.refuse_unknown(["m"])


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda f: f.integer("x"), "FILE: x: got 0.5, expected a whole number of at least 1. Cho"),
        (lambda f: f.inner("part").integer("m"), "FILE: part.m: got True, expected a whole number"),
        (lambda f: f.number("text"), "FILE: text: got 'a', expected a finite number above 0"),
        (lambda f: f.triple("x", (0.0, 0.0, 0.0)), "x: got 0.5, expected three finite numbers"),
        (lambda f: f.one_of("n", [1, 2]), "FILE: n: got 3, expected 1 or 2"),
        (lambda f: f.inner("n"), "FILE: n: got 3, expected an object"),
        (
            lambda f: f.refuse_unknown(["n", "x", "rgb", "part", "tex"]),
            "text: got 'a', expected no "
            "such field: this library cannot express it. Did you mean 'tex'",
        ),
    ],
)
def test_what_does_not_fit_is_named(read, message):
    with pytest.raises(WeightsError, match=message):
        read(FIELDS)


def test_files(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(WeightsError, match=r"got no file .*config\.json, expected one"):
        read_fields(path)
    path.write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json, which is damaged \(.*, expected JSON"):
        read_fields(path)
    path.write_text("[1]")
    with pytest.raises(WeightsError, match=r"config\.json with a list, expected a JSON object"):
        read_fields(path)
    path.write_text('{"n": 2}')
    assert read_fields(path) == Fields({"n": 2}, str(path))
