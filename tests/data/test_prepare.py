"""The command: what it writes from tiny archives, and every way in which it refuses."""

import importlib.util
import json
import signal

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.builders.image_files import ImageFiles
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.imagenet import CLASS_NAMES
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.official import OFFICIAL_ARCHIVES
from calib_jax.data.prepare import main, prepare


@pytest.fixture
def with_tensorflow(monkeypatch):
    """As if TensorFlow were installed; nothing is downloaded, what would be is collected."""
    asked = []

    def download(builder, *, download_dir, download_config):
        asked.append((builder.info.full_name, download_dir, download_config.manual_dir))

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
    return asked


@pytest.fixture
def without_tensorflow(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_command_writes_what_a_split_opens(pack, picture, tmp_path, capsys):
    files = {f"imagenet-r/{name}/art_0.jpg": picture(9) for name in ("n01443537", "n12267677")}
    archive = pack(tmp_path / "imagenet-r.tar", files)
    assert main(["imagenet_r", f"--data_dir={tmp_path}", f"--archive={archive}"]) == 0
    assert capsys.readouterr().out == "imagenet_r/1.0.0: 2 images in split test\n"
    split = imagenet.shifts()["imagenet_r"]
    images = ImageSplit(split, [tmp_path], image_size=4, class_names=CLASS_NAMES)
    assert images.labels().tolist() == [1, 988]
    assert images.groups[images.labels()].tolist() == [0, 199]
    assert len(images.absent) == 800


def test_what_is_left_out_is_said(pack, picture, tmp_path, capsys):
    """Kaggle's tree: the test images have no labels."""
    names = ("train/cat/0.png", "train/dog/0.png", "test/0.png", "test/1.png", "README.txt")
    archive = pack(tmp_path / "pets.zip", dict.fromkeys(names, picture(9)))
    options = [f"--data_dir={tmp_path}", f"--archive={archive}"]
    assert main(["image_folder/pets", *options]) == 0
    assert capsys.readouterr().out == (
        "image_folder/pets/1.0.0: left out: 1 other file (README.txt), 2 unlabelled images "
        "(test/0.png, test/1.png).\n"
        "image_folder/pets/1.0.0: 2 images in split train\n"
    )


def test_folders_of_imagenet_v2_are_numbers(pack, picture, tmp_path):
    files = {f"imagenetv2-format-val/{label}/a.jpeg": picture(1) for label in ("0", "10", "2")}
    archive = pack(tmp_path / "imagenet_v2", files)
    prepare("imagenet_v2/matched-frequency", tmp_path, archive)
    split = imagenet.shifts()["imagenet_v2"]
    images = ImageSplit(split, [tmp_path], image_size=4, class_names=CLASS_NAMES)
    assert images.labels().tolist() == [0, 10, 2]


def test_a_signal_leaves_no_half_data_set(pack, picture, tmp_path, monkeypatch, capsys):
    archive = pack(tmp_path / "pets", {"dog/a.png": picture(1), "cat/b.png": picture(2)})
    arguments = ["image_folder/pets", f"--data_dir={tmp_path / 'data'}", f"--archive={archive}"]
    examples = ImageFiles._generate_examples

    def interrupted(builder, files):
        yield next(examples(builder, files))
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFiles, "_generate_examples", interrupted)
        assert main(arguments) == 143
    assert capsys.readouterr().err.splitlines()[-1] == (
        "calib_jax: stopped by SIGTERM. The same command goes on from here: "
        f"python -m calib_jax.data.prepare {' '.join(arguments)}"
    )
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert main(arguments) == 0
    assert "2 images in split test" in capsys.readouterr().out


def test_what_is_there_is_left_alone(pack, picture, tmp_path, capsys):
    archive = pack(tmp_path / "pets", {"dog/a.png": picture(1)})
    arguments = ["image_folder/pets", f"--data_dir={tmp_path}", f"--archive={archive}"]
    assert main(arguments) == 0
    folder = tmp_path / "image_folder" / "pets" / "1.0.0"
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert main(arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    printed = capsys.readouterr().out
    assert printed.count("image_folder/pets/1.0.0: 1 images in split test") == 2
    assert printed.count("image_folder/pets/1.0.0: it was there already; nothing was read.") == 1


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r", "imagenet_sketch", "pacs"])
def test_folders_that_are_no_class_of_the_data_set(pack, picture, tmp_path, name):
    archive = pack(tmp_path / "pets", {"cat/a.png": picture(1)})
    message = rf"got the folder 'cat', which is no class of {name}. Pass the official archive."
    with pytest.raises(DataError, match=message):
        prepare(name, tmp_path / "data", archive)


def test_files_that_differ_in_their_suffix_alone(pack, picture, tmp_path):
    files = {"dog/a.png": picture(1), "dog/a.jpg": picture(2)}
    (builder,) = prepare("image_folder/pets", tmp_path, pack(tmp_path / "pets", files))
    ids = [row["id"] for row in builder.as_data_source(split="test")]
    assert ids == [b"test_dog_a", b"test_dog_a.png"]


@pytest.mark.parametrize("name", ["image_folder/..", "image_folder/.", "image_folder/.hidden"])
def test_a_name_that_leaves_its_folder(pack, picture, tmp_path, name):
    archive = pack(tmp_path / "pets", {"dog/a.png": picture(1)})
    with pytest.raises(ConfigError, match=rf"^name: got '{name}', expected one of"):
        prepare(name, tmp_path / "data", archive)
    assert not (tmp_path / "data").exists()


def test_a_file_for_a_data_dir(pack, picture, tmp_path):
    archive = pack(tmp_path / "pets", {"dog/a.png": picture(1)})
    (tmp_path / "data").touch()
    with pytest.raises(ConfigError, match="^data_dir: got the file .*data, expected a folder"):
        prepare("image_folder/pets", tmp_path / "data", archive)


@pytest.mark.parametrize("name", ["imagenet_c", "imagenet_real", "objectnet"])
def test_our_builders_are_reached(pack, tmp_path, name):
    with pytest.raises((ConfigError, DataError), match=r"image|real\.json|objectnet"):
        prepare(name, tmp_path, pack(tmp_path / "empty.zip", {"readme.txt": b""}))


def test_an_error_is_one_line_and_an_exit_code(tmp_path, capsys):
    assert main(["objectnet", f"--data_dir={tmp_path}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "calib_jax: error: objectnet: it is read from what objectnet-1.0.zip of objectnet.dev "
        "unpacks to. Pass its path as --archive=PATH.\n"
    )


@pytest.mark.parametrize(
    "name", [name for name in OFFICIAL_ARCHIVES if "NAME" not in name] + ["image_folder/pets"]
)
def test_a_wrong_archive_is_one_line(tmp_path, capsys, name):
    """One `archive`, one reason, one thing to do."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    for archive in ("missing", "empty", "text"):
        options = [f"--data_dir={tmp_path / 'data'}", f"--archive={tmp_path / archive}"]
        assert main([name, *options]) in (1, 2)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1 and ".. " not in printed.err, printed.err
        assert printed.err.count(str(tmp_path)) == 1, printed.err
        assert not (tmp_path / "data").exists()


def test_a_home_folder_is_found(pack, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    pack(tmp_path / "pets", {"dog/a.png": picture(1)})
    assert main(["image_folder/pets", "--data_dir=~/data", "--archive=~/pets"]) == 0
    assert (tmp_path / "data" / "image_folder" / "pets" / "1.0.0" / "features.json").exists()
    with pytest.raises(SystemExit):
        main(["image_folder/pets", "--data_dir=x", "--archive=~no_such_user/pets"])
    message = "error: argument --archive: got ~no_such_user/pets, but there is no such user"
    assert message in capsys.readouterr().err


def test_nothing_is_logged(pack, picture, tmp_path, caplog):
    archive = pack(tmp_path / "fog.tar", {"fog/1/n01440764/a.JPEG": picture(1)})
    prepare("imagenet_c", tmp_path, archive)
    prepare("image_folder/fog", tmp_path, pack(tmp_path / "fog", {"dog/a.png": picture(1)}))
    assert caplog.messages == []


@pytest.mark.parametrize("name", [*OFFICIAL_ARCHIVES, "image_folder/pets"])
def test_a_missing_archive(without_tensorflow, tmp_path, name):
    with pytest.raises(ConfigError, match=rf"^{name}: .*(Pass its path as --archive|, or pass )"):
        prepare(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"), [("objectnt", "objectnet"), ("cifar_10", "cifar10"), ("image_folder", "ima")]
)
def test_an_unknown_name(tmp_path, name, hint):
    message = rf"^name: got '{name}', expected one of .*TFDS\. Did you mean '{hint}.*'\? Correct it"
    with pytest.raises(ConfigError, match=message):
        prepare(name, tmp_path)


@pytest.mark.parametrize("name", ["nope", "foo", "pets", "mydata"])
def test_a_name_that_is_like_none(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"^name: got '{name}', .* a data set of TFDS\. Correct"):
        prepare(name, tmp_path)


def test_what_tfds_has_prepared_is_left_alone(without_tensorflow, tmp_path, capsys):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    info = {"name": "cifar10", "version": "3.0.2", "fileFormat": "array_record"}
    info["splits"] = [{"name": "test", "shardLengths": ["7"], "numBytes": "1"}]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert main(["cifar10", f"--data_dir={tmp_path}"]) == 0
    assert capsys.readouterr().out == (
        "cifar10/3.0.2: it was there already; nothing was read.\n"
        "cifar10/3.0.2: 7 images in split test\n"
    )


def test_what_is_missing_of_a_pattern_is_prepared(with_tensorflow, tmp_path, capsys):
    folder = tmp_path / "domainnet" / "sketch" / "1.0.0"
    folder.mkdir(parents=True)
    info = {"name": "domainnet", "configName": "sketch", "version": "1.0.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "array_record"}))
    assert len(prepare("domainnet/*", tmp_path)) == 6
    assert "domainnet/sketch/1.0.0: it was there" in capsys.readouterr().out
    names = [name for name, *_ in with_tensorflow]
    assert len(names) == 5 and "domainnet/sketch/1.0.0" not in names


def test_a_module_that_a_data_set_needs(tmp_path, monkeypatch):
    def builder(name, **options):
        raise ModuleNotFoundError(name="tensorflow")

    monkeypatch.setattr(tfds, "builder", builder)
    with pytest.raises(
        ConfigError, match=r"^mnist: TFDS needs tensorflow to prepare it; .*Run pip"
    ):
        prepare("mnist", tmp_path)


def test_without_tensorflow(without_tensorflow, tmp_path):
    message = (
        r"^cifar10_1/v6: TFDS needs TensorFlow to prepare it; reading it does not\. "
        r'Run pip install "calib_jax\[prepare\]"\.$'
    )
    with pytest.raises(ConfigError, match=message):
        prepare("cifar10_1/v6", tmp_path)
    with pytest.raises(ConfigError, match=r'prepare\]", or pass imagenet-a\.tar of github'):
        prepare("imagenet_a", tmp_path)


def test_tfds_downloads(with_tensorflow, tmp_path):
    prepare("cifar10", tmp_path)
    prepare("domainnet/s*", tmp_path)
    prepare("imagenet2012", tmp_path, tmp_path)
    downloads = str(tmp_path / "downloads")
    assert with_tensorflow == [
        ("cifar10/3.0.2", downloads, None),
        ("domainnet/sketch/1.0.0", downloads, None),
        ("imagenet2012/5.1.0", downloads, str(tmp_path)),
    ]


def test_the_folder_of_an_archive_is_the_manual_one(with_tensorflow, tmp_path):
    (tmp_path / "ILSVRC2012_img_val.tar").touch()
    prepare("imagenet2012_real", tmp_path, tmp_path / "ILSVRC2012_img_val.tar")
    assert with_tensorflow[0][2] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "archive", "message"),
    [
        ("domainnet", None, r"it has 6 configs, expected one of them: real, .*, or '/\*' for all"),
        ("domainnet/skech", None, r"domainnet has no config 'skech'\. Did you mean 'sketch'\? Cor"),
        ("cifar10/x", None, r"cifar10 has no config 'x'\. Correct it\."),
        ("imagenet2012", None, r"should contain two files: ILSVRC2012_img_train.tar .*--archive=D"),
        ("imagenet2012", "missing", r"^archive: got .*missing, but there is no such folder\. Cor"),
        ("cifar10", "", r"^cifar10: got --archive, but TFDS downloads it\. Leave it out\."),
    ],
)
def test_what_tfds_cannot_do(with_tensorflow, tmp_path, name, archive, message):
    with pytest.raises(ConfigError, match=message):
        prepare(name, tmp_path, None if archive is None else tmp_path / archive)
    assert with_tensorflow == []


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("no file\nat all."),
        OSError("no route"),
        tfds.download.DownloadError,
        NonMatchingChecksumError("wrong checksum"),
    ],
)
def test_a_download_that_fails(with_tensorflow, monkeypatch, tmp_path, error):
    def fail(builder, **options):
        raise error

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    reason = "(no file at all|no route|DownloadError|wrong checksum)"
    message = rf"^cifar10/3.0.2: TFDS cannot prepare it: {reason}\. Check the connection, and"
    with pytest.raises(DataError, match=message):
        prepare("cifar10", tmp_path)
