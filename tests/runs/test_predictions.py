"""The command that evaluates predictions in files."""

import json
import pathlib

import numpy as np
import pytest
import scipy.special

from calib_jax import main
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.evaluation.api import evaluate_predictions
from calib_jax.metrics.robustness import Trend
from calib_jax.runs import predictions
from calib_jax.runs.predictions import PredictionFiles, run_predictions

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
    for first, second, held_out, message in (
        ("nan", "blur", "held_out", r"/nan\.npz: logits: got nan at \[0, 0\]"),
        ("clean", "nan", "held_out", r"/nan\.npz: shifts\.a\.b\.logits: got nan at \[0, 0\]"),
        ("clean", "blur", "nan", r"/nan\.npz: calibration\.logits: got nan at \[0, 0\]"),
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


@pytest.mark.parametrize("place", ["a={}", "{}", " a = {} "])
def test_a_path_with_an_equals_sign(tmp_path, place):
    """As the folders of a sweep have it."""
    path = tmp_path / "lr=0.1" / "test.npz"
    config = PredictionFiles(reported=place.format(path))
    assert config.paths() == {"a" if "a" in place else "test": path}


def test_a_relative_path_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pathlib.Path("lr=0.1/test.npz")
    assert PredictionFiles(reported=str(path)).paths() == {"lr": pathlib.Path("0.1/test.npz")}
    path.parent.mkdir()
    path.touch()
    assert PredictionFiles(reported=str(path)).paths() == {"test": path}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfcat\ndog\n", ("cat", "dog")),
        (b"cat\r\ndog", ("cat", "dog")),
        ("c\u2028at\nd\x85og\ne\x0cf".encode(), ("c\u2028at", "d\x85og", "e\x0cf")),
        (b"cat\n\ndog\n", ("cat", "dog")),
    ],
)
def test_files_of_class_names(tmp_path, content, expected):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    assert PredictionFiles(reported="a.npz", class_names=str(path)).names() == expected


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_files_of_no_class_names(tmp_path, content):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    message = r"class_names: .*names\.txt cannot be read \(.*Write one name on each line"
    with pytest.raises(ConfigError, match=message):
        PredictionFiles(reported="a.npz", class_names=str(path)).names()
