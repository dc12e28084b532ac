"""A head from the file beside an exported model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers.exported import ExportedHead
from calib_jax.classifiers.head import LinearMap
from calib_jax.classifiers.stored import CLASSIFIER_FILE, write_head
from calib_jax.core.errors import WeightsError

KEY = jax.random.key(0)


def test_the_head_is_that_of_the_file(tiny_model, tmp_path):
    encoder, params = tiny_model
    rng = np.random.default_rng(0)
    kernel, bias = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((8, 3), (3,)))
    write_head(tmp_path / CLASSIFIER_FILE, LinearMap(kernel=kernel, bias=bias), "abc")
    tokens = jnp.ones((3, 1, 4), jnp.int32)
    classifier = ExportedHead(folder=str(tmp_path))
    head = classifier.head(classifier.init(KEY, encoder, params, tokens), encoder, params, tokens)
    np.testing.assert_array_equal(head.kernel, kernel)
    np.testing.assert_array_equal(head.bias, bias)
    message = r"maps 8 features to 3 classes, expected 8 and 4. Name the model"
    with pytest.raises(WeightsError, match=message):
        classifier.init(KEY, encoder, params, jnp.ones((4, 1, 4), jnp.int32))
    with pytest.raises(WeightsError, match="classifier: nowhere/.* cannot be read"):
        ExportedHead(folder="nowhere").init(KEY, encoder, params, tokens)
