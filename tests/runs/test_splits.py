import pathlib

import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.datasets.records import Split
from calib_jax.runs import splits
from calib_jax.runs.splits import Splits


def opened(experiment, *folders):
    return Splits(experiment, (*folders, pathlib.Path(experiment.data_dir)), image_size=8)


def test_splits_that_are_named_twice_are_opened_once(tiny_experiment, monkeypatch):
    names = []
    original = splits.ImageSplit

    def counting(split, *args, **kwargs):
        names.append(split.split)
        return original(split, *args, **kwargs)

    monkeypatch.setattr(splits, "ImageSplit", counting)
    ready = opened(tiny_experiment())
    assert names == [
        "validation",
        "test",
        "test[:50%]",
        "near",
        "far",
        "train",
    ]
    assert set(ready.evaluated) == {"validation", "clean", "shifted", "near", "far"}


def test_what_the_run_prepared_comes_before_a_namesake(tiny_experiment, tiny_data, tmp_path):
    """`data_dir` has a folder of the same name, with nothing in it that could be read."""
    (tmp_path / "other" / "tiny_colours" / "1.0.0").mkdir(parents=True)
    (tmp_path / "other" / "tiny_colours" / "1.0.0" / "features.json").write_text("{}")
    experiment = tiny_experiment(data_dir=str(tmp_path / "other"))
    assert len(opened(experiment, tiny_data).evaluated) == 5
    with pytest.raises(ConfigError, match=r"tiny_colours"):
        opened(experiment)


def test_a_test_image_that_cannot_be_read_is_found_at_the_start(tiny_experiment, tiny_data):
    (records,) = tiny_data.rglob("*test.array_record*")
    content = records.read_bytes()
    damaged = bytearray(content)
    damaged[damaged.index(b"\x89PNG") + 200] ^= 1
    experiment = tiny_experiment()
    try:
        records.write_bytes(bytes(damaged))
        with pytest.raises(DataError, match=r"data set tiny_colours\[test\], record 0: "):
            opened(experiment)
    finally:
        records.write_bytes(content)


def test_a_missing_split_names_what_is_there(tiny_experiment):
    experiment = tiny_experiment()
    experiment.evaluation.near = {"near": Split(name="tiny_colors")}
    with pytest.raises(ConfigError, match=r"'tiny_colors'.*Did you mean 'tiny_colours'"):
        opened(experiment)


def test_an_ood_set_holds_no_known_class(tiny_experiment):
    experiment = tiny_experiment()
    whole = Split(name="tiny_colours", split="test", without=("red",))
    experiment.evaluation.far = {"far": whole}
    message = (
        r"^OOD set tiny_colours\[test\], without red: 2 of its classes are classes of the model, "
        r"first 'green'\. Leave them out: without=\('red', 'green', 'dark blue'\)\.$"
    )
    with pytest.raises(ConfigError, match=message):
        opened(experiment)
