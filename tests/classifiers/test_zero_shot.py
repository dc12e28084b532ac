import jax
import numpy as np

from calib_jax.classifiers.head import class_text_embeddings
from calib_jax.classifiers.zero_shot import ZeroShot


def test_the_head_is_the_scaled_class_embeddings(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tokens = tiny_batches[0].class_tokens
    assert ZeroShot().init(jax.random.key(0), encoder, params, tokens) == {}

    @jax.jit
    def both(params):
        head = ZeroShot().head({}, encoder, params, tokens)
        return head, class_text_embeddings(encoder, params, tokens)

    head, embeddings = both(params)
    np.testing.assert_allclose(head.kernel, embeddings.T / 0.07, rtol=1e-5)
    np.testing.assert_array_equal(head.bias, np.zeros(3))
    np.testing.assert_allclose(head.class_embeddings(), embeddings, rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_text_tower_and_the_logit_scale(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tables, _ = tiny_batches

    def total(params):
        return ZeroShot().head({}, encoder, params, tables.class_tokens).kernel[0].sum()

    gradients = jax.jit(jax.grad(total))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert gradients["logit_scale"] != 0
    assert np.any(gradients["text"]["projection"]["kernel"] != 0)
    assert not any(np.any(g != 0) for g in jax.tree.leaves(gradients["image"]))
