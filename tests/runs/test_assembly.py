import jax
import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.sharding import make_mesh
from calib_jax.data.datasets.records import Split
from calib_jax.runs import assembly
from calib_jax.runs.assembly import Assembly
from calib_jax.runs.texts import read_texts
from calib_jax.runs.workdir import Workdir


def test_splits_that_are_named_twice_are_opened_once(tiny_experiment, tmp_path, monkeypatch):
    opened = []
    original = assembly.ImageSplit

    def counting(split, *args, **kwargs):
        opened.append(split.split)
        return original(split, *args, **kwargs)

    monkeypatch.setattr(assembly, "ImageSplit", counting)
    experiment, mesh = tiny_experiment(), make_mesh()
    ready = Assembly(experiment, read_texts(experiment, mesh), Workdir(tmp_path), mesh)
    assert opened == [
        "validation",
        "test",
        "test[:50%]",
        "near",
        "far",
        "train",
    ]
    assert set(ready.splits) == {"validation", "clean", "shifted", "near", "far"}


def test_what_the_run_prepared_comes_before_a_namesake(tiny_experiment, tiny_data, tmp_path):
    """`data_dir` has a folder of the same name, with nothing in it that could be read."""
    (tmp_path / "other" / "tiny_colours" / "1.0.0").mkdir(parents=True)
    (tmp_path / "other" / "tiny_colours" / "1.0.0" / "features.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data").symlink_to(tiny_data)
    experiment, mesh = tiny_experiment(data_dir=str(tmp_path / "other")), make_mesh()
    workdir = Workdir(tmp_path / "run")
    assert len(Assembly(experiment, read_texts(experiment, mesh), workdir, mesh).splits) == 5


def test_a_test_image_that_cannot_be_read_is_found_at_the_start(
    tiny_experiment, tiny_data, tmp_path
):
    (records,) = tiny_data.rglob("*test.array_record*")
    content = records.read_bytes()
    damaged = bytearray(content)
    damaged[damaged.index(b"\x89PNG") + 200] ^= 1
    experiment, mesh = tiny_experiment(), make_mesh()
    texts = read_texts(experiment, mesh)
    try:
        records.write_bytes(bytes(damaged))
        with pytest.raises(DataError, match=r"data set tiny_colours\[test\], record 0: "):
            Assembly(experiment, texts, Workdir(tmp_path), mesh)
    finally:
        records.write_bytes(content)


def test_a_missing_split_names_what_is_there(tiny_experiment, tmp_path):
    experiment, mesh = tiny_experiment(), make_mesh()
    experiment.evaluation.near = {"near": Split(name="tiny_colors")}
    with pytest.raises(ConfigError, match=r"'tiny_colors'.*Did you mean 'tiny_colours'"):
        Assembly(experiment, read_texts(experiment, mesh), Workdir(tmp_path), mesh)
    assert jax.device_count() == 8


def test_an_ood_set_holds_no_known_class(tiny_experiment, tmp_path):
    experiment, mesh = tiny_experiment(), make_mesh()
    texts = read_texts(experiment, mesh)
    whole = Split(name="tiny_colours", split="test", without=("red",))
    experiment.evaluation.far = {"far": whole}
    message = (
        r"^OOD set tiny_colours\[test\], without red: 2 of its classes are classes of the model, "
        r"first 'green'\. Leave them out: without=\('red', 'green', 'dark blue'\)\.$"
    )
    with pytest.raises(ConfigError, match=message):
        Assembly(experiment, texts, Workdir(tmp_path), mesh)
