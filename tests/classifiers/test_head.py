import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers import head as head_module
from calib_jax.classifiers.head import Classifier, LinearMap, class_text_embeddings
from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.progress import Board, put_up
from calib_jax.core.sharding import make_mesh, replicated


def unit(x):
    return np.float64(x) / np.linalg.norm(np.float64(x), axis=-1, keepdims=True)


def test_logits_by_loop():
    rng = np.random.default_rng(0)
    features, kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    head = LinearMap(kernel=jnp.asarray(kernel, jnp.float32), bias=jnp.asarray(bias, jnp.float32))
    expected = np.zeros((5, 3))
    for i in range(5):
        norm = np.sqrt(sum(x**2 for x in features[i]))
        for c in range(3):
            expected[i, c] = sum(features[i, k] / norm * kernel[k, c] for k in range(4)) + bias[c]
    logits = head.logits(jnp.asarray(features, jnp.float32))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(head.class_embeddings(), unit(kernel.T), rtol=1e-5, atol=1e-6)
    # Only the direction of a feature counts; a zero row gets the bias.
    scaled = head.logits(jnp.asarray(1e3 * features, jnp.float32))
    np.testing.assert_allclose(scaled, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(head.logits(jnp.zeros((1, 4)))[0], head.bias)


def test_a_head_is_a_tree_of_arrays():
    head = LinearMap(kernel=jnp.ones((4, 3)), bias=jnp.zeros(3))
    assert jax.jit(lambda h: h.logits(jnp.ones((2, 4))))(head).shape == (2, 3)
    assert len(jax.tree.leaves(head)) == 2


def test_class_embeddings_by_loop(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tokens = tiny_batches[0].class_tokens
    encode = jax.jit(encoder.encode_text)
    expected = []
    for prompts in tokens:
        embeddings = [unit(encode(params, prompt[None])[0]) for prompt in prompts]
        expected.append(unit(np.mean(embeddings, axis=0)))
    result = jax.jit(lambda p: class_text_embeddings(encoder, p, tokens))(params)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_classes", [3, 11, 16])
def test_many_prompts_are_streamed_over_the_devices(
    tiny_model, tiny_batches, monkeypatch, num_classes
):
    """Prompts of three lengths, 8 at once on 8 devices: the same as all at once."""
    encoder, params = tiny_model
    tokens = np.resize(np.asarray(tiny_batches[0].class_tokens), (num_classes, 2, 8))
    tokens = np.concatenate([tokens, np.zeros_like(tokens)], axis=2)
    tokens[:, 0, 0] = np.arange(num_classes)
    tokens[::3, 1, 3:8] = [31, 0, 0, 0, 0]
    tokens[1::3, 1, 7:13] = [1, 2, 3, 4, 5, 31]
    expected = head_module.class_text_embeddings(encoder, params, jnp.asarray(tokens))
    monkeypatch.setattr(head_module, "PROMPTS_AT_ONCE", 4)
    everywhere = jax.device_put(tokens, replicated(make_mesh()))
    streamed = head_module.class_text_embeddings(encoder, params, everywhere)
    np.testing.assert_allclose(streamed, expected, rtol=1e-5, atol=1e-6)
    assert streamed.sharding.is_fully_replicated
    inside = jax.jit(lambda p: head_module.class_text_embeddings(encoder, p, everywhere))(params)
    np.testing.assert_allclose(inside, expected, rtol=1e-5, atol=1e-6)


def test_streaming_shows_progress(tiny_model, tiny_batches, monkeypatch):
    encoder, params = tiny_model
    monkeypatch.setattr(head_module, "PROMPTS_AT_ONCE", 2)
    board = Board(stream=io.StringIO(), clock=itertools.count(step=40.0).__next__)
    tokens = jax.device_put(np.asarray(tiny_batches[0].class_tokens), jax.devices()[0])
    with put_up(board):
        jax.eval_shape(lambda p: head_module.class_text_embeddings(encoder, p, tokens), params)
        assert not board.stream.getvalue()
        head_module.class_text_embeddings(encoder, params, tokens)
    lines = board.stream.getvalue().splitlines()
    assert lines[0].startswith("text head: prompt ")
    assert lines[-1].startswith("text head: 6 prompts in ")


def test_classifiers_keep_the_protocol():
    assert isinstance(ZeroShot(), Classifier)
    assert isinstance(LinearHead(), Classifier)
