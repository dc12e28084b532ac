import collections
import fractions
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from calib_jax.core.errors import WeightsError
from calib_jax.models.weights.pickled import read_archive


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def same(got, expected):
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        assert got[name].dtype == x.dtype
        np.testing.assert_array_equal(got[name], x)


def test_a_saved_table(torch, path):
    tensors = {
        "half": NUMBERS.astype(np.float16),
        "bfloat": NUMBERS.astype(ml_dtypes.bfloat16),
        "transposed": NUMBERS.T,
        "double": NUMBERS.astype(np.float64),
        "scalar": np.array(3, np.float32),
        "count": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }
    table = {name: torch.tensor(name, x) for name, x in tensors.items()}
    # Torch writes a transposed tensor as a view of what it is transposed from.
    storages = {**tensors, "transposed": NUMBERS}
    same(read_archive(torch.save(path, table, storages)), tensors)


def test_views_share_a_storage(torch, path):
    table = collections.OrderedDict(
        whole=torch.tensor("0", NUMBERS),
        column=torch.tensor("0", NUMBERS, shape=(3,), strides=(4,), offset=1),
        parameter=torch.called(torch.parameter, torch.tensor("0", NUMBERS), True, {}),
    )
    table._metadata = {"version": 1}
    expected = {"whole": NUMBERS, "column": NUMBERS[:, 1], "parameter": NUMBERS}
    same(read_archive(torch.save(path, table, {"0": NUMBERS})), expected)


def test_lazy_negation_is_done(torch, path):
    """As torch 2.13 writes `torch._neg_view(x)` and a view of it; `torch.load` gives -x."""
    table = {
        "neg": torch.tensor("0", NUMBERS, properties={"neg": True}),
        "transposed": torch.tensor("1", NUMBERS.T, properties={"neg": True}),
        "parameter": torch.called(
            torch.parameter, torch.tensor("2", NUMBERS, properties={"neg": True}), True, {}
        ),
        "plain": torch.tensor("3", NUMBERS, properties={}),
        "unset": torch.tensor("4", NUMBERS, properties={"neg": False, "conj": False}),
    }
    found = read_archive(torch.save(path, table, {str(number): NUMBERS for number in range(5)}))
    expected = {"neg": -NUMBERS, "transposed": -NUMBERS.T, "parameter": -NUMBERS}
    same(found, expected | {"plain": NUMBERS, "unset": NUMBERS})


@pytest.mark.parametrize("properties", [{"conj": True}, {"neg": 1, "other": 0}, ["neg"], 3])
def test_other_lazy_properties_are_refused(torch, path, properties):
    table = {"x": torch.tensor("0", NUMBERS, properties=properties)}
    with pytest.raises(WeightsError, match=r"which asks for the tensor property .*, expected tens"):
        read_archive(torch.save(path, table, {"0": NUMBERS}))


def test_a_training_checkpoint_gives_its_table(torch, path):
    content = {
        "epoch": 3,
        "state_dict": {"x": torch.tensor("0", NUMBERS)},
        "optimizer": {"state": [torch.tensor("1", NUMBERS)]},
    }
    same(read_archive(torch.save(path, content, {"0": NUMBERS})), {"x": NUMBERS})


def test_modules_of_torchscript(torch, path):
    outer, inner = torch.cls("__torch__.clip.model", "CLIP"), torch.cls("__torch__.torch", "Linear")
    integers = torch.function("torch.jit._pickle", "build_intlist")
    root, child = outer(), inner()
    child.weight, child.training = torch.tensor("0", NUMBERS), False
    child.padding = torch.called(integers, [1, 2])
    root.scale, root.visual, root.hook = torch.tensor("1", NUMBERS[0]), child, None
    path = torch.save(path, root, {"0": NUMBERS, "1": NUMBERS[0]}, byteorder=b"")
    same(read_archive(path), {"scale": NUMBERS[0], "visual.weight": NUMBERS})


def test_a_module_within_itself_has_an_end(torch, path):
    root = torch.cls("__torch__", "Loop")()
    root.inner, root.x = root, torch.tensor("0", NUMBERS)
    message = "is damaged or not torch's .no table of tensors and no module"
    with pytest.raises(WeightsError, match=message):
        read_archive(torch.save(path, root, {"0": NUMBERS}))


def write_pickle(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", content)
    return path


def test_nothing_is_run(torch, path, tmp_path):
    mark = tmp_path / "mark"
    content = {"x": torch.called(os.system, f"touch {mark}")}
    with pytest.raises(WeightsError, match=r"which asks for (posix|nt)\.system, expected tensors "):
        read_archive(torch.save(path, content, {}))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pickle.dumps(eval), "builtins.eval"),
        (pickle.dumps(getattr), "builtins.getattr"),
        (pickle.dumps(fractions.Fraction(1, 2)), "fractions.Fraction"),
        (b"\x80\x02ctorch.nn.modules.linear\nLinear\n.", "torch.nn.modules.linear.Linear"),
        # Dotted names reach into what is allowed: refused as a whole.
        (b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.", "OrderedDict.__class__"),
    ],
)
def test_other_names_are_refused(path, content, name):
    with pytest.raises(WeightsError, match=rf"asks for .*{name}.*nothing of it was run"):
        read_archive(write_pickle(path, content))


def test_one_pickle_changes_nothing_for_the_next(torch, path):
    # An object's state may be set on whatever the pickle can name, functions included.
    change = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(X\x04\x00\x00\x00codeK\x01ub."
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(write_pickle(path, change))
    path = torch.save(path, {"x": torch.tensor("0", NUMBERS)}, {"0": NUMBERS})
    same(read_archive(path), {"x": NUMBERS})


@pytest.mark.parametrize(
    "view",
    [
        {"offset": 1},
        {"shape": (3, 5)},
        {"strides": (5, 1)},
        {"strides": (-4, 1)},
        {"offset": -1},
        {"shape": (-3, 4)},
        {"shape": (3, 4, 1)},
        {"strides": (0, 0), "shape": (10**6, 10**6)},
        {"shape": ("3", 4)},
        {"size": 11},
        {"size": 13},
        {"size": "12"},
    ],
)
def test_no_tensor_leaves_its_storage(torch, path, view):
    table = {"x": torch.tensor("0", NUMBERS, **view)}
    with pytest.raises(WeightsError, match=r"model\.pt, which is damaged or not torch's \(.*again"):
        read_archive(torch.save(path, table, {"0": NUMBERS}))


def test_a_storage_that_is_none(torch, path):
    no_storage = torch.called(torch.rebuild, [1.0], 0, (1,), (1,), False, {})
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(torch.save(path, {"x": no_storage}, {}))
    table = {"x": torch.storage("module", "0", 1)}
    with pytest.raises(WeightsError, match="'storage' is no storage"):
        read_archive(torch.save(path, table, {}))


@pytest.mark.parametrize("cut", [4, 100, 300])
def test_truncated_archives(torch, path, cut):
    torch.save_table(path, {"x": NUMBERS})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(WeightsError, match="is damaged or not torch's .no zip archive"):
        read_archive(path)


def test_a_changed_byte_is_found(torch, path):
    torch.save_table(path, {"x": NUMBERS})
    content = path.read_bytes()
    start = content.index(NUMBERS.tobytes())
    path.write_bytes(content[:start] + b"\xff" + content[start + 1 :])
    with pytest.raises(WeightsError, match="damaged or not torch's .Bad CRC-32"):
        read_archive(path)


def test_other_content_is_named(torch, path):
    with pytest.raises(WeightsError, match="with 'epoch', which is no tensor, expected names and"):
        read_archive(torch.save(path, {"epoch": 3}, {}))
    with pytest.raises(WeightsError, match="with no tensors, expected names and tensors"):
        read_archive(torch.save(path, {}, {}))
    with pytest.raises(WeightsError, match="no table of tensors and no module"):
        read_archive(torch.save(path, [1, 2], {}))
    with pytest.raises(WeightsError, match="in torch's format before 1.6, expected a zip"):
        path.write_bytes(pickle.dumps(3, 2))
        read_archive(path)
    with pytest.raises(WeightsError, match="with big-endian numbers, expected little"):
        read_archive(torch.save(path, {"x": torch.tensor("0", NUMBERS)}, {}, byteorder=b"big"))
    with pytest.raises(WeightsError, match="damaged or not torch's .no data.pkl"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/b.txt", "x")
        read_archive(path)
