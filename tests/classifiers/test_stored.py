import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.classifiers import stored
from calib_jax.classifiers.head import LinearMap
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import WeightsError


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    return LinearMap(kernel=jnp.asarray(kernel, jnp.float32), bias=jnp.asarray(bias, jnp.float32))


def test_a_head_comes_back_as_it_was(head, tmp_path):
    path = tmp_path / "new" / stored.CLASSIFIER_FILE
    stored.write_head(path, head, ["red", "green", "dark blue"])
    found, names = stored.read_head(path)
    assert names == ("red", "green", "dark blue")
    np.testing.assert_array_equal(found.kernel, head.kernel)
    np.testing.assert_array_equal(found.bias, head.bias)
    assert {file.name for file in path.parent.iterdir()} == {stored.CLASSIFIER_FILE, "SHA256SUMS"}
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsError, match=r"classifier\.safetensors: got another content than"):
        stored.read_head(path)


def test_any_reader_of_safetensors_gets_the_logits(head, tmp_path):
    """What the documentation says of the file: arithmetic on it, without this package."""
    path = tmp_path / stored.CLASSIFIER_FILE
    stored.write_head(path, head, ["a", "b", "c"])
    tensors = safetensors.numpy.load_file(path)
    features = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    logits = unit @ tensors["kernel"] + tensors["bias"]
    np.testing.assert_allclose(logits, head.logits(jnp.asarray(features)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tensors["class_embeddings"], head.class_embeddings())


@pytest.mark.parametrize("content", [None, b"", b"no safetensors at all"])
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "classifier.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"classifier: .*safetensors cannot be read \("):
        stored.read_head(path)


def test_a_file_without_class_names_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"kernel": np.ones((2, 2), np.float32)}, path)
    with pytest.raises(WeightsError, match="expected what an export has written"):
        stored.read_head(path)


class Counted(ZeroShot):
    calls = 0

    def head(self, *args):
        type(self).calls += 1
        return super().head(*args)


def test_a_kept_head_is_made_once_for_each_model_and_prompt_table(
    tiny_model, tiny_batches, tmp_path, monkeypatch
):
    encoder, params = tiny_model
    tokens = tiny_batches[0].class_tokens
    monkeypatch.setattr(Counted, "calls", 0)

    def head(encoder_params, class_tokens=tokens):
        tree = {"encoder": encoder_params, "classifier": {}}
        return stored.kept_head(tmp_path, Counted(), encoder, tree, class_tokens)

    first, again = head(params), head(params)
    assert Counted.calls == 1
    np.testing.assert_array_equal(first.kernel, again.kernel)
    # The image tower has no part in it.
    image = jax.tree.map(lambda leaf: leaf + 1, params["image"])
    head({**params, "image": image})
    assert Counted.calls == 1
    head({**params, "logit_scale": params["logit_scale"] + 1})
    head(params, tokens.at[0, 0, 0].add(1))
    assert Counted.calls == 3
    # A damaged file is made again.
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    np.testing.assert_array_equal(head(params).kernel, first.kernel)
    assert Counted.calls == 4
    head(params)
    assert Counted.calls == 4


def test_a_folder_that_cannot_be_written_costs_only_time(
    tiny_model, tiny_batches, tmp_path, caplog
):
    encoder, params = tiny_model
    (tmp_path / "file").write_text("no folder")
    tree = {"encoder": params, "classifier": {}}
    tokens = tiny_batches[0].class_tokens
    head = stored.kept_head(tmp_path / "file" / "heads", ZeroShot(), encoder, tree, tokens)
    expected = ZeroShot().head({}, encoder, params, tokens)
    np.testing.assert_array_equal(head.kernel, expected.kernel)
    (message,) = caplog.messages
    assert "cannot be kept in" in message
    assert "--config.cache_dir" in message


@pytest.mark.parametrize(
    ("tensors", "names", "message"),
    [
        ({"bias": np.zeros(2, np.float32)}, '["a", "b", "c"]', r"a bias \(2,\) and 3 class names"),
        ({"kernel": np.zeros(3, np.float32)}, '["a", "b", "c"]', r"got a kernel \(3,\)"),
        ({}, '["a", "b"]', r"and 2 class names, expected \[d c\], \[c\] and c"),
        ({}, '"abc"', r"got the class names 'abc', expected a list of texts"),
        ({}, "[1, 2, 3]", r"got the class names \[1, 2, 3\], expected a list of texts"),
        ({}, "[" * 5000, r"ValueError: it is nested too deeply"),
        ({"kernel": np.zeros((4, 3), np.int32)}, "[]", r"got a kernel of int32, expected finite"),
        ({"bias": np.full(3, np.nan, np.float32)}, "[]", r"got a bias of float32, expected finite"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, tensors, names, message):
    path = tmp_path / "classifier.safetensors"
    whole = {"kernel": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}
    safetensors.numpy.save_file(whole | tensors, path, metadata={"class_names": names})
    with pytest.raises(WeightsError, match=message) as caught:
        stored.read_head(path)
    assert "\n" not in str(caught.value)
