"""Predictions in files, and the command that evaluates them."""

import json
import pathlib
import sys
import zipfile

import numpy as np
import pytest
import scipy.special

from calib_jax import main
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.evaluation.api import evaluate_predictions
from calib_jax.metrics.robustness import Trend
from calib_jax.runs import predictions
from calib_jax.runs.predictions import PredictionFiles, read_predictions, run_predictions

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "evaluate_predictions.py"


def split(seed, num_examples=60):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_examples, 4)).astype(np.float32)
    return logits, (logits + 3 * rng.normal(size=logits.shape)).argmax(axis=1)


LOGITS, LABELS = split(0)
PROBS = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)


@pytest.fixture
def files(tmp_path):
    """Three splits in npz files."""
    for seed, name in enumerate(("clean", "blur", "held_out")):
        logits, labels = split(seed)
        np.savez(tmp_path / f"{name}.npz", logits=logits, labels=labels)
    return tmp_path


def test_the_command(files, capsys):
    workdir = files / "run"
    arguments = [
        "calib_jax",
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        f"--config.reported={files}/clean.npz,out of focus={files}/blur.npz",
        f"--config.calibration={files}/held_out.npz",
        "--config.num_resamples=5",
        "--config.model=resnet",
    ]
    assert main.main(arguments) == 0
    assert "resnet" in capsys.readouterr().out
    results = json.loads((workdir / "results.json").read_text())
    expected = evaluate_predictions(
        *split(0),
        name="clean",
        shifts={"out of focus": split(1)},
        calibration=split(2),
        num_resamples=5,
    )
    (run,) = results["runs"]
    for key in ("metrics", "intervals", "reliability", "selective", "mistakes", "summary"):
        assert run[key] == expected[key]
    assert set(run["calibrated"]) == {"temperature", "ensemble"}
    assert results["datasets"]["id"] == "clean"
    assert results["datasets"]["shifts"] == ["out of focus"]
    sizes = {"clean": 60, "out of focus": 60, "validation": 60}
    assert results["datasets"]["num_examples"] == sizes
    assert results["table"][0]["ood_ece"]["mean"] == expected["summary"]["ood_ece"]
    page = (workdir / "report.html").read_text()
    assert "resnet" in page and "out of focus" in page
    assert main.main(arguments) == 0  # again, from the files
    assert main.main([*arguments, "--config.model=vit"]) == 2
    assert "model: 'resnet' -> 'vit'" in capsys.readouterr().err
    logits, labels = split(3)
    np.savez(files / "blur.npz", logits=logits, labels=labels)
    assert main.main(arguments) == 2
    assert "1 field differs: predictions_crc32.out of focus: " in capsys.readouterr().err


def test_one_file_alone(files):
    config = PredictionFiles(reported=f"{files}/clean.npz", num_resamples=0)
    (run,) = run_predictions(config, files / "run")["runs"]
    assert "calibrated" not in run and "intervals" not in run


def test_class_names_and_a_path_from_home(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    (files / "names.txt").write_text("ant\nbee, wild\n\ncat\ndog\n")
    for class_names, expected in (
        ("ant, bee,cat,dog", ("ant", "bee", "cat", "dog")),
        ("~/names.txt", ("ant", "bee, wild", "cat", "dog")),
    ):
        config = PredictionFiles(
            reported="~/clean.npz",
            calibration="~/held_out.npz",
            num_resamples=0,
            class_names=class_names,
        )
        results = run_predictions(config, files / f"run_{len(class_names)}")
        assert results["class_names"] == list(expected)
        (run,) = results["runs"]
        assert {mistake["label"] for mistake in run["mistakes"]["clean"]} <= set(expected)
    absent = PredictionFiles(reported="a.npz", class_names="names_of.txt")
    with pytest.raises(ConfigError, match=r"class_names: names_of.txt cannot be read .*cat,dog"):
        absent.validate()


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


@pytest.mark.parametrize("field", ["reported", "calibration", "class_names"])
def test_the_home_of_no_user(field):
    config = PredictionFiles(reported="a.npz")
    setattr(config, field, "~nobodyx/a.txt")
    with pytest.raises(ConfigError, match=rf"^{field}: got '~nobodyx/a.txt', expected the home fo"):
        config.validate()


def test_a_class_name_may_begin_like_a_home():
    config = PredictionFiles(reported="a.npz", class_names="~cat,a,b,c")
    config.validate()
    assert config.names() == ("~cat", "a", "b", "c")


def test_files_that_do_not_go_together(files):
    np.savez(files / "probs.npz", probs=PROBS, labels=LABELS)
    np.savez(files / "few.npz", logits=LOGITS[:, :3], labels=LABELS % 3)
    for other, message in (
        ("probs.npz", r"probs.npz: got probs, expected logits as in the first file"),
        ("few.npz", r"few.npz: shifts.few.logits: got 3 classes, expected 4"),
    ):
        config = PredictionFiles(reported=f"{files}/clean.npz,{files / other}", num_resamples=0)
        with pytest.raises(DataError, match=message):
            run_predictions(config, files / "run")
    assert not (files / "run" / "results.json").exists()


def test_what_is_wrong_in_a_file_names_it(files):
    """Whichever split it is."""
    np.savez(files / "nan.npz", logits=np.full_like(LOGITS, np.nan), labels=LABELS)
    np.savez(files / "tiny.npz", logits=LOGITS[:3], labels=LABELS[:3])
    for first, second, held_out, message in (
        ("nan", "blur", "held_out", r"/nan\.npz: logits: got nan at \[0, 0\]"),
        ("clean", "nan", "held_out", r"/nan\.npz: shifts\.a\.b\.logits: got nan at \[0, 0\]"),
        ("clean", "blur", "nan", r"/nan\.npz: calibration\.logits: got nan at \[0, 0\]"),
        ("tiny", "blur", "held_out", r"/tiny\.npz: num_bins: got 15 bins for 3 examples"),
        ("clean", "blur", "clean", r"/clean\.npz: calibration\.logits: got in row \[0\] what log"),
    ):
        config = PredictionFiles(
            reported=f"{files}/{first}.npz,a.b={files}/{second}.npz",
            calibration=f"{files}/{held_out}.npz",
            num_resamples=0,
        )
        with pytest.raises(DataError, match=message):
            run_predictions(config, files / "run")


def test_an_error_of_no_file_stays_as_it_is(files, monkeypatch):
    def fail(*args, **options):
        raise DataError("temperature: no.")

    monkeypatch.setattr(predictions, "evaluate_predictions", fail)
    config = PredictionFiles(reported=f"{files}/clean.npz", num_resamples=0)
    with pytest.raises(DataError, match=r"^temperature: no\.$"):
        run_predictions(config, files / "run")


@pytest.mark.parametrize(
    ("reported", "message"),
    [
        ("", "got the name '' in ''"),
        ("a.npz,b/a.npz", "got the name 'a' in 'a.npz,b/a.npz', expected distinct names"),
        ("validation=a.npz", "expected distinct names other than 'validation'"),
    ],
)
def test_names_of_splits(reported, message):
    with pytest.raises(ConfigError, match=message):
        PredictionFiles(reported=reported).validate()


def test_probabilities_under_the_name_of_logits(files):
    np.savez(files / "named.npz", logits=PROBS, labels=LABELS)
    config = PredictionFiles(reported=f"{files}/named.npz", num_resamples=0)
    with pytest.raises(DataError, match=r"named.npz: logits: got rows .*in a file call them prob"):
        run_predictions(config, files / "run")


def test_a_line_for_no_shift():
    trends = {"a": Trend(slope=1.0, intercept=0.0, scale="logit")}
    with pytest.raises(ConfigError, match="trends: there is no shift 'a'"):
        PredictionFiles(reported="a.npz,b.npz", trends=trends).validate()
    PredictionFiles(reported="b.npz,a.npz", trends=trends).validate()


def test_names_and_paths():
    config = PredictionFiles(
        reported="clean=x/a.npz, b.npy", calibrators={"t": TemperatureScaling()}
    )
    assert config.paths() == {"clean": pathlib.Path("x/a.npz"), "b": pathlib.Path("b.npy")}
    config = PredictionFiles(reported=" test = a.npz , b.npy ")
    assert config.paths() == {"test": pathlib.Path("a.npz"), "b": pathlib.Path("b.npy")}
