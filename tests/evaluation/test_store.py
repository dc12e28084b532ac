"""Predictions in files: what is read is what was written, or nothing, or an error that names it."""

import json

import numpy as np
import pytest

from calib_jax.core.errors import DataError
from calib_jax.evaluation import store as module
from calib_jax.evaluation.store import Store, in_memory, num_bytes

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.standard_normal((3, 4)).astype(np.float32)
WHOLE = {
    "logits": RNG.standard_normal((7, 3)).astype(np.float32),
    "features": RNG.standard_normal((7, 4)).astype(np.float32),
    "labels": RNG.integers(0, 3, 7).astype(np.int32),
}
IDENTITIES = {"clean": {"model": "m", "split": {"name": "x"}}, "fog": {"model": "m"}}


def batches(*sizes):
    start = 0
    for size in sizes:
        yield {name: array[start : start + size] for name, array in WHOLE.items()}
        start += size


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "seed_0" / "carot", IDENTITIES)


@pytest.fixture
def written(store):
    store.write("clean", batches(3, 3, 1), 7, EMBEDDINGS)
    return store


def test_a_head_without_class_embeddings(store):
    for found in (store.write("clean", batches(4, 3), 7, None), store.read("clean")):
        assert found.class_embeddings is None
        np.testing.assert_array_equal(found.logits, WHOLE["logits"])
    assert in_memory(batches(7), 7, None).class_embeddings is None


def assert_whole(predictions):
    for name, array in WHOLE.items():
        found = getattr(predictions, name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(predictions.class_embeddings, EMBEDDINGS)


def test_what_is_written_batch_by_batch_is_read_memory_mapped(store):
    assert store.read("clean") is None
    for found in (store.write("clean", batches(3, 3, 1), 7, EMBEDDINGS), store.read("clean")):
        assert_whole(found)
        assert isinstance(found.logits, np.memmap)
    assert store.read("fog") is None
    files = {path.name for path in (store.folder / "clean").iterdir()}
    assert files == {"about.json", *(f"{name}.npy" for name in (*WHOLE, "class_embeddings"))}
    assert num_bytes(store.folder) > sum(array.nbytes for array in WHOLE.values())


def test_without_a_store_they_are_in_memory():
    found = in_memory(batches(4, 3), 7, EMBEDDINGS)
    assert_whole(found)
    assert not isinstance(found.logits, np.memmap)


def test_of_another_identity_nothing_is_read_and_it_is_replaced(written):
    other = Store(written.folder, {"clean": {"model": "another"}})
    assert other.read("clean") is None
    other.write("clean", batches(7), 7, EMBEDDINGS)
    assert written.read("clean") is None
    assert_whole(other.read("clean"))


def test_a_stopped_prediction_leaves_nothing_to_read(store):
    def stopping():
        yield next(batches(3))
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        store.write("clean", stopping(), 7, EMBEDDINGS)
    assert store.read("clean") is None
    store.write("clean", batches(7), 7, EMBEDDINGS)
    assert_whole(store.read("clean"))
    assert not list(store.folder.glob("*.partial"))


@pytest.mark.parametrize("make", [in_memory, None], ids=["in memory", "in files"])
def test_too_few_examples_are_no_predictions(store, make):
    write = make or (lambda *arguments: store.write("clean", *arguments))
    with pytest.raises(ValueError, match="got 6 examples, expected 7"):
        write(batches(3, 3), 7, EMBEDDINGS)


@pytest.mark.parametrize("name", [*WHOLE, "class_embeddings"])
@pytest.mark.parametrize("where", [10, 22, -3], ids=["header", "byte order", "values"])
def test_a_flipped_bit_is_found(written, name, where):
    path = written.folder / "clean" / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[where] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(
        DataError, match=rf"{name}\.npy: it is damaged, .*Delete the folder .*clean"
    ):
        written.read("clean")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"identity": 3}', b"\xff"])
def test_a_damaged_description_is_named_or_of_no_use(written, content):
    (written.folder / "clean" / "about.json").write_bytes(content)
    if content == b'{"identity": 3}':
        assert written.read("clean") is None
        return
    with pytest.raises(DataError, match=r"about\.json: it is damaged"):
        written.read("clean")


def test_a_missing_file_is_named(written):
    (written.folder / "clean" / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"labels\.npy: it is damaged"):
        written.read("clean")


def test_a_full_disk_is_one_line_and_leaves_nothing(store, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    message = r"clean cannot be written \(No space left on device\)\. Make room, or set keep_pred"
    with pytest.raises(DataError, match=message):
        store.write("clean", batches(7), 7, EMBEDDINGS)
    assert store.read("clean") is None


def test_a_process_that_does_not_write_has_them_in_memory(store, monkeypatch):
    monkeypatch.setattr(module, "is_writer", lambda: False)
    assert_whole(store.write("clean", batches(7), 7, EMBEDDINGS))
    assert not store.folder.exists()


def test_scores_are_kept_beside_the_predictions(written):
    values = RNG.standard_normal(7)
    assert written.read_score("clean", "my/score", {"k": 5}) is None
    written.write_score("clean", "my/score", {"k": 5}, values)
    np.testing.assert_array_equal(written.read_score("clean", "my/score", {"k": 5}), values)
    assert written.read_score("clean", "my/score", {"k": 6}) is None
    assert_whole(written.read("clean"))
    written.write_score("fog", "my/score", {"k": 5}, values)  # of which no predictions are kept
    assert written.read_score("fog", "my/score", {"k": 5}) is None
    about = json.loads((written.folder / "clean" / "about.json").read_text())
    path = written.folder / "clean" / about["scores"]["my/score"]["file"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"score_\w+\.npy: it is damaged"):
        written.read_score("clean", "my/score", {"k": 5})


def check_flips(store, name, number):
    """Whatever bit of a file is another: read as it was, as nothing, or one line."""
    store.write_score("clean", "mcm", {"k": 5}, WHOLE["logits"][:, 0])
    path, rng = store.folder / "clean" / name, np.random.default_rng(number)
    content = path.read_bytes()
    for _ in range(number):
        changed = bytearray(content)
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(changed))
        try:
            found, score = store.read("clean"), store.read_score("clean", "mcm", {"k": 5})
        except DataError as error:
            assert "\n" not in str(error)
            continue
        assert name == "about.json"
        if found is not None:
            assert_whole(found)
        if score is not None:
            np.testing.assert_array_equal(score, WHOLE["logits"][:, 0])


@pytest.mark.parametrize("name", ["about.json", "logits.npy", "labels.npy"])
def test_flips(written, name):
    check_flips(written, name, 100)


@pytest.mark.many
@pytest.mark.parametrize("name", ["about.json", "logits.npy", "labels.npy"])
def test_many_flips(written, name):
    check_flips(written, name, 400)
