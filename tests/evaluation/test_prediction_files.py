"""Readers of predictions' files, and what is wrong with a file."""

import sys
import zipfile

import numpy as np
import pytest
import scipy.special

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.evaluation.prediction_files import read_predictions

RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.normal(size=(60, 4)).astype(np.float32)
LABELS = (LOGITS + 3 * RNG.normal(size=LOGITS.shape)).argmax(axis=1)
PROBS = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)


def parquet_of(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_every_format_gives_the_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", probs=PROBS, labels=LABELS)
    np.save(tmp_path / "test_logits.npy", LOGITS)
    np.save(tmp_path / "test_labels.npy", LABELS)
    np.save(tmp_path / "probs_run_logits.npy", LOGITS)
    np.save(tmp_path / "probs_run_labels.npy", LABELS)
    parquet_of(tmp_path / "lists.parquet", probs=list(PROBS), label=LABELS)
    singles = {f"logit_{k}": LOGITS[:, k] for k in (1, 0, 3, 2)}
    parquet_of(tmp_path / "singles.parquet", label=LABELS, **singles)
    for name, kind, scores in (
        ("a.npz", "probs", PROBS),
        ("test_logits.npy", "logits", LOGITS),
        ("probs_run_logits.npy", "logits", LOGITS),
        ("lists.parquet", "probs", PROBS),
        ("singles.parquet", "logits", LOGITS),
    ):
        found, (got, labels) = read_predictions(tmp_path / name)
        assert found == kind
        np.testing.assert_array_equal(got, scores)
        np.testing.assert_array_equal(labels, LABELS)
        assert isinstance(got, np.memmap) == name.endswith("npy")


def test_what_is_wrong_with_a_file_is_one_line(tmp_path, monkeypatch):
    np.savez(tmp_path / "both.npz", logits=LOGITS, probs=PROBS, labels=LABELS)
    np.savez(tmp_path / "neither.npz", scores=LOGITS, labels=LABELS)
    np.savez(tmp_path / "alone.npz", logits=LOGITS)
    np.savez(tmp_path / "objects.npz", logits=np.array([None]), labels=LABELS)
    np.savez(tmp_path / "short.npz", logits=LOGITS, labels=LABELS[1:])
    np.savez(tmp_path / "other.npz", logits=LOGITS, labels=np.full_like(LABELS, 4))
    np.save(tmp_path / "odd_probs.npy", np.array([[1.0], [0.5, 0.5]], object))
    np.save(tmp_path / "odd_labels.npy", LABELS)
    np.save(tmp_path / "my_logits.npy", LOGITS)
    np.save(tmp_path / "scores.npy", LOGITS)
    (tmp_path / "broken.npz").write_bytes(b"PK no")
    np.savez_compressed(tmp_path / "bent.npz", logits=LOGITS, labels=LABELS)
    packed = bytearray((tmp_path / "bent.npz").read_bytes())
    packed[60:90] = bytes(30)
    (tmp_path / "bent.npz").write_bytes(packed)
    parquet_of(tmp_path / "null.parquet", label=[0, None], logits=[[1.0, 2.0], [1.0, 2.0]])
    parquet_of(tmp_path / "rowless.parquet", label=LABELS[:0], logit_0=LOGITS[:0, 0])
    (tmp_path / "broken.parquet").write_bytes(b"PAR?")
    parquet_of(tmp_path / "gap.parquet", label=LABELS, logit_0=LOGITS[:, 0], logit_2=LOGITS[:, 1])
    parquet_of(tmp_path / "ragged.parquet", label=[0, 1], logits=[[1.0, 2.0], [1.0]])
    parquet_of(tmp_path / "text.parquet", label=["cat", "dog"], logits=[[1.0, 2.0], [1.0, 2.0]])
    parquet_of(tmp_path / "words.parquet", label=[0, 1], logits=[["1", "2"], ["1", "2"]])
    parquet_of(tmp_path / "flat.parquet", label=[0, 1], logits=[1.0, 2.0])
    parquet_of(tmp_path / "unlabelled.parquet", logits=[[1.0, 2.0]])
    for name, error, message in (
        ("absent.npz", ConfigError, "there is no such file"),
        ("a.csv", ConfigError, r"got the suffix '.csv', expected .npy, .npz, .parquet"),
        ("both.npz", DataError, r"got logits and probs .*, expected one of them"),
        ("neither.npz", DataError, r"neither logits nor probs \(it has scores, labels\)"),
        ("alone.npz", DataError, "got no 'labels', only logits"),
        ("objects.npz", DataError, "objects.npz: got an array of Python objects, .* Save the sc"),
        (
            "odd_probs.npy",
            DataError,
            "odd_probs.npy: got an array of Python objects, .* in rows of",
        ),
        ("my_logits.npy", ConfigError, "its labels are missing, expected my_labels.npy beside it"),
        ("scores.npy", DataError, "scores.npy: got neither logits nor probs"),
        ("broken.npz", DataError, "broken.npz: cannot be read"),
        ("bent.npz", DataError, r"bent.npz: cannot be read \(.*Write it again"),
        ("null.parquet", DataError, "the column 'label' has entries that are null. Write a number"),
        ("rowless.parquet", DataError, "rowless.parquet: it has no rows. Write a number in every"),
        ("broken.parquet", DataError, "broken.parquet: cannot be read"),
        ("gap.parquet", DataError, "gap.parquet: got no 'logit_1', only label, logit_0, logit_2"),
        (
            "ragged.parquet",
            DataError,
            "ragged.parquet: got rows of different lengths in the column 'logits', .* in each row",
        ),
        ("text.parquet", DataError, "text.parquet: labels: got dtype object, expected integers"),
        ("words.parquet", DataError, "words.parquet: logits: got dtype object, expected real num"),
        ("flat.parquet", DataError, r"flat.parquet: logits: got shape \(2,\), expected \(examples"),
        ("short.npz", DataError, r"short.npz: labels: got shape \(59,\), expected \(60,\)"),
        (
            "other.npz",
            DataError,
            r"other.npz: labels: got 4 at \[0\], expected a class in \[0, 4\)",
        ),
        ("unlabelled.parquet", DataError, "got no 'label', only logits"),
    ):
        with pytest.raises(error, match=message) as caught:
            read_predictions(tmp_path / name)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match="Parquet needs pyarrow, .* Run: pip install pyarrow"):
        read_predictions(tmp_path / "gap.parquet")


def test_another_format_within_is_one_line(tmp_path):
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, LOGITS)
    np.savez(tmp_path / "both.npz", logits=LOGITS, labels=LABELS)
    archive = (tmp_path / "both.npz").read_bytes()
    for name in ("x_logits.npy", "y_labels.npy"):
        (tmp_path / name).write_bytes(archive)
    np.save(tmp_path / "x_labels.npy", LABELS)
    np.save(tmp_path / "y_logits.npy", LOGITS)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as packed:
        packed.writestr("logits", "1 2")
        packed.writestr("labels", "1")
    for name, message in (
        ("array.npz", r"array\.npz: got one array, .* Save them with numpy\.savez\(path, logits="),
        ("x_logits.npy", r"x_logits\.npy: got the arrays of an .* Save it with numpy\.save\.$"),
        ("y_logits.npy", r"y_labels\.npy: got the arrays of an .* Save it with numpy\.save\.$"),
        ("text.npz", r"text\.npz: got files that hold no array, expected \.npy files\. Save them"),
    ):
        with pytest.raises(DataError, match=message):
            read_predictions(tmp_path / name)


@pytest.mark.parametrize("place", ["logits", "labels"])
@pytest.mark.parametrize(("byte", "value"), [(45, b"("), (59, b"("), (21, b",")])
def test_a_damaged_header_is_one_line(tmp_path, place, byte, value):
    np.save(tmp_path / "x_logits.npy", LOGITS)
    np.save(tmp_path / "x_labels.npy", LABELS)
    damaged = bytearray((tmp_path / f"x_{place}.npy").read_bytes())
    damaged[byte : byte + 1] = value
    (tmp_path / f"x_{place}.npy").write_bytes(damaged)
    message = rf"x_{place}\.npy: cannot be read \(.*Write it again"
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(tmp_path / "x_logits.npy")
    assert "\n" not in str(caught.value)


def test_an_archive_of_no_known_compression_is_one_line(tmp_path):
    np.savez(tmp_path / "x.npz", logits=LOGITS, labels=LABELS)
    damaged = bytearray((tmp_path / "x.npz").read_bytes())
    damaged[damaged.index(b"PK\x01\x02") + 10] = 99
    (tmp_path / "x.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"x\.npz: cannot be read \(.*Write it again"):
        read_predictions(tmp_path / "x.npz")


def test_a_further_column_that_begins_alike(tmp_path):
    singles = {f"logit_{k}": LOGITS[:, k] for k in range(4)}
    path = parquet_of(tmp_path / "x.parquet", label=LABELS, logit_scale=LABELS / 2, **singles)
    np.testing.assert_array_equal(read_predictions(path)[1][0], LOGITS)


def header(shape):
    """An array file of this shape that holds eight bytes."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)


@pytest.mark.parametrize("shape", ["(2**40, 4)", "(1099511627776, 4)", "(4611686018427387904,)"])
@pytest.mark.parametrize("place", ["logits", "labels"])
def test_a_header_that_claims_terabytes_allocates_nothing(tmp_path, shape, place):
    shape = shape.replace("2**40", str(2**40))
    np.savez(tmp_path / "x.npz", logits=LOGITS, labels=LABELS)
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        for name, content in (("logits", LOGITS), ("labels", LABELS)):
            with archive.open(f"{name}.npy", "w") as file:
                if name == place:
                    file.write(header(shape))
                else:
                    np.save(file, content)
    np.save(tmp_path / "z_logits.npy", LOGITS)
    np.save(tmp_path / "z_labels.npy", LABELS)
    (tmp_path / f"z_{place}.npy").write_bytes(header(shape))
    for name in ("y.npz", "z_logits.npy"):
        with pytest.raises(DataError, match=r"cannot be read \(.*Write it again") as caught:
            read_predictions(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_boolean_in_a_shape(tmp_path):
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("logits.npy", header("(True, 2)"))
        archive.writestr("labels.npy", header("(2,)"))
    with pytest.raises(DataError, match=r"its header says \(True, 2\), expected numbers"):
        read_predictions(tmp_path / "y.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", ["logits", "labels"])
def test_two_arrays_of_one_name(tmp_path, name):
    np.savez(tmp_path / "x.npz", logits=LOGITS, labels=LABELS)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr(f"{name}.npy", header("(2,)"))
    with pytest.raises(DataError, match=rf"got 2 arrays '{name}', expected one\. Save the file"):
        read_predictions(tmp_path / "x.npz")
