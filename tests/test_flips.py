"""Files of every format that we read, with bits flipped, cut short or drawn at random.

No reader ends in anything but a value or one line.
"""

import json

import numpy as np
import pytest

from calib_jax.core import text_files
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.evaluation.prediction_files import read_predictions
from calib_jax.report import data
from calib_jax.runs.predictions import PredictionFiles
from calib_jax.runs.run import _is_of
from calib_jax.runs.workdir import Workdir, read_json
from calib_jax.training.history import History

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(9, 3)).astype(np.float32), RNG.integers(0, 3, 9)
RESULTS = {
    "schema": 1,
    "config": {"()": "Experiment", "seeds": [0]},
    "runs": [{"method": "carot", "seed": 0}],
    "table": [{"method": "carot"}],
    "datasets": {"id": "clean"},
}
ROWS = [{"phase": "carot", "seed": 0, "step": n, "loss": 0.5 / n} for n in range(1, 4)]


def write(folder, name):
    """A file of the format, as NumPy or a run writes it; what is to be flipped."""
    path = folder / name
    if name == "x.npz":
        np.savez(path, logits=LOGITS, labels=LABELS)
    elif name == "packed.npz":
        np.savez_compressed(path, logits=LOGITS, labels=LABELS)
    elif name == "x_logits.npy":
        np.save(path, LOGITS)
        np.save(folder / "x_labels.npy", LABELS)
    elif name == "x.parquet":
        pyarrow, parquet = (pytest.importorskip(n) for n in ("pyarrow", "pyarrow.parquet"))
        columns = {f"logit_{k}": LOGITS[:, k] for k in range(3)} | {"label": LABELS}
        parquet.write_table(pyarrow.table(columns), path)
    elif name == "metrics.jsonl":
        for row in ROWS:
            History(path).append(row)
    elif name == "names.txt":
        path.write_text("cat\r\ndog\nnaïve bird\n", encoding="utf-8")
    else:
        value = RESULTS["config"] if name == "config.json" else RESULTS
        path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return path


def read(path):
    """What the reader of the format makes of a file."""
    if path.name == "metrics.jsonl":
        return History(path).rows()
    if path.name == "config.json":
        return Workdir(path.parent).check_kind({"()": "Experiment"})
    if path.name == "results.json":
        data.check(read_json(path))
        return _is_of(path, RESULTS["config"])
    if path.name == "names.txt":
        return PredictionFiles(reported="a.npz", class_names=str(path)).names()
    return read_predictions(path)


NAMES = (
    *("x.npz", "packed.npz", "x_logits.npy", "x.parquet"),
    *("metrics.jsonl", "config.json", "results.json", "names.txt"),
)


def damaged(content, rng):
    """The content with one to three bits flipped, or cut, or with bytes of another place."""
    found = bytearray(content)
    kind = rng.integers(4)
    if kind < 2:
        for _ in range(rng.integers(1, 4)):
            found[rng.integers(len(found))] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        del found[rng.integers(len(found)) :]
    else:
        start, other = rng.integers(len(found), size=2)
        found[start : start + 8] = found[other : other + 8]
    return bytes(found)


def check_reader(path, contents):
    """Every content is a value, or one line that names the file."""
    for content in contents:
        path.write_bytes(content)
        try:
            read(path)
        except (ConfigError, DataError) as error:
            assert "\n" not in str(error), str(error)


def check_flips(folder, name, num_flips):
    path = write(folder, name)
    assert read(path) is not Ellipsis  # whole, it is read
    content, rng = path.read_bytes(), np.random.default_rng(len(name))
    check_reader(path, (damaged(content, rng) for _ in range(num_flips)))


@pytest.mark.parametrize("name", NAMES)
def test_no_damage_of_a_file_is_a_stack_trace(tmp_path, name):
    check_flips(tmp_path, name, 100)


@pytest.mark.many
@pytest.mark.parametrize("name", NAMES)
def test_no_damage_of_a_file_is_a_stack_trace_in_400_flips(tmp_path, name):
    check_flips(tmp_path, name, 400)


def drawn_json(rng, depth=0):
    """Any JSON value: what JSON can hold, and what Python's reader takes beside it."""
    leaves = (None, True, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "phase", "\u2028", "é")
    kind = rng.integers(6 if depth < 3 else 4)
    if kind < 4:
        return leaves[rng.integers(len(leaves))]
    children = [drawn_json(rng, depth + 1) for _ in range(rng.integers(4))]
    if kind == 4:
        return children
    keys = ("phase", "seed", "step", "schema", "config", "runs", "table", "datasets", "()", "")
    return {keys[rng.integers(len(keys))]: child for child in children}


def check_drawn(folder, num_cases):
    rng = np.random.default_rng(1)
    texts = [json.dumps(drawn_json(rng)) for _ in range(num_cases)]
    texts += ["[" * 5000 + "]" * 5000, '{"a":' * 5000, "\ufeff{}", "", "\x00"]
    for name in ("metrics.jsonl", "config.json", "results.json"):
        check_reader(folder / name, ((text + "\n").encode() for text in texts))


def test_any_json_in_the_place_of_ours_is_one_line(tmp_path):
    check_drawn(tmp_path, 100)


@pytest.mark.many
def test_any_json_of_1000_in_the_place_of_ours_is_one_line(tmp_path):
    check_drawn(tmp_path, 1000)


def check_headers(folder, num_cases):
    """Headers of arrays that claim what they like, before a few bytes."""
    rng, path = np.random.default_rng(2), folder / "x_logits.npy"
    np.save(folder / "x_labels.npy", LABELS)
    numbers = ("0", "3", "9", "-1", "True", "None", "1.5", str(2**40), str(2**70), "'a'", "(3,)")
    types = ("<f4", "<f8", "|O", "<U9", "|V8", "<M8[s]", "f", "x", ">c16", "|b1", "<f2", "", "<U0")

    def header():
        length = rng.integers(5)
        shape = ", ".join(numbers[k] for k in rng.integers(len(numbers), size=length))
        order = ("True", "False", "1", "None")[rng.integers(4)]
        descr = types[rng.integers(len(types))]
        text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape},), }}\n"
        start = b"\x93NUMPY" + bytes([int(rng.choice([1, 2, 3])), 0])
        size = len(text).to_bytes(2 if start[6] == 1 else 4, "little")
        return start + size + text.encode() + rng.bytes(int(rng.integers(120)))

    check_reader(path, (header() for _ in range(num_cases)))


def test_headers_that_claim_anything_are_one_line(tmp_path):
    check_headers(tmp_path, 100)


@pytest.mark.many
def test_1000_headers_that_claim_anything_are_one_line(tmp_path):
    check_headers(tmp_path, 1000)


def check_names(num_cases):
    """Names of classes in any characters, between any ends of lines, come back as they were."""
    rng = np.random.default_rng(3)
    letters = (
        "a",
        "é",
        "\u2028",
        "\x85",
        "\x0b",
        "\x0c",
        "=",
        " ",
        ",",
        "日",
        "\u0301",
        "\U0001f600",
    )
    for _ in range(num_cases):
        names = ["".join(rng.choice(letters, rng.integers(1, 8))) for _ in range(rng.integers(9))]
        ends = rng.choice(["\n", "\r\n", "\r"], len(names))
        text = "".join(name + end for name, end in zip(names, ends, strict=True))
        mark = "\ufeff" * int(rng.integers(2))
        assert text_files.lines((mark + text).encode()) == names, text


def test_names_in_any_characters_come_back():
    check_names(100)


@pytest.mark.many
def test_1000_names_in_any_characters_come_back():
    check_names(1000)
