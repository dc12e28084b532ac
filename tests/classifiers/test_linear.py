import jax
import jax.numpy as jnp
import numpy as np

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot


def test_it_starts_as_the_zero_shot_head(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tokens = tiny_batches[0].class_tokens

    @jax.jit
    def both(params):
        own = LinearHead().init(jax.random.key(0), encoder, params, tokens)
        return own, ZeroShot().head({}, encoder, params, tokens)

    own, expected = both(params)
    assert set(own) == {"kernel", "bias"}
    head = LinearHead().head(own, encoder, params, tokens)
    np.testing.assert_array_equal(head.kernel, expected.kernel)
    np.testing.assert_array_equal(head.bias, np.zeros(3))


def test_the_head_is_its_parameters(tiny_model, tiny_batches):
    own = {"kernel": jnp.ones((8, 3)), "bias": jnp.arange(3.0)}
    head = LinearHead().head(own, *tiny_model, tiny_batches[0].class_tokens)
    assert head.kernel is own["kernel"]
    assert head.bias is own["bias"]
