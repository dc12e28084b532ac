import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.core.errors import WeightsError
from calib_jax.models.weights.files import read_tensors

TENSORS = {
    "a.x": np.arange(4, dtype=np.float32),
    "a.y": np.arange(3, dtype=ml_dtypes.bfloat16),
    "b": np.array(2, np.int64),
}


def same(got, expected=TENSORS):
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        assert got[name].dtype == x.dtype
        np.testing.assert_array_equal(got[name], x)


def write_shards(folder, weight_map, shards):
    for file, names in shards.items():
        safetensors.numpy.save_file({name: TENSORS[name] for name in names}, folder / file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


def test_every_format(tmp_path, torch):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, path)
    same(read_tensors(path))
    same(read_tensors(torch.save_table(tmp_path / "pytorch_model.bin", TENSORS)))
    weight_map = {"a.x": "one.safetensors", "a.y": "one.safetensors", "b": "two.safetensors"}
    shards = {"one.safetensors": ["a.x", "a.y"], "two.safetensors": ["b"]}
    same(read_tensors(write_shards(tmp_path, weight_map, shards)))


def test_what_training_put_before_the_names_is_taken_off(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({f"module._orig_mod.{k}": x for k, x in TENSORS.items()}, path)
    same(read_tensors(path))
    mixed = {"module.x": TENSORS["a.x"], "y": TENSORS["a.x"]}
    safetensors.numpy.save_file(mixed, path)
    same(read_tensors(path), mixed)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match=r"got no file at .*model\.safetensors, expected one"):
        read_tensors(path)
    safetensors.numpy.save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-5])
    message = r"model\.safetensors, which is damaged or not safetensors .*Download it again"
    with pytest.raises(WeightsError, match=message):
        read_tensors(path)
    path.write_bytes(b"PK\x03\x04 a zip archive of torch")
    with pytest.raises(WeightsError, match=message):
        read_tensors(path)
    other = path.rename(tmp_path / "model.onnx")
    with pytest.raises(WeightsError, match=r"model\.onnx, expected a file named \.safetensors, "):
        read_tensors(other)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({}, r"with 0 of its 0 files missing, first '\(none named\)'"),
        ({"b": "one.safetensors", "c": "two.safetensors"}, "1 of its 2 files missing, first 'two"),
        ({"b": "../one.safetensors"}, r"1 of its 1 files missing, first '\.\./one"),
        ({"b": "one.safetensors", "c": "one.safetensors"}, r"first 'c', expected the same"),
        ({"b": 3}, "1 of its 1 files missing, first '3'"),
    ],
)
def test_shards_that_do_not_fit_their_index(tmp_path, weight_map, message):
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.numpy.save_file({"b": TENSORS["b"]}, tmp_path / "one.safetensors")
    path = write_shards(folder, weight_map, {"one.safetensors": ["b"]})
    with pytest.raises(WeightsError, match=message):
        read_tensors(path)
