"""Views made of given arrays, so that a term is tested without a model."""

import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.types import Batch
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Tables, Views


@pytest.fixture(scope="session")
def views_of():
    """Returns a function: the views of `size` examples that hold the given quantities."""
    encoder = Encoder(presets.tiny(vocab_size=8, context_length=2, image_size=8, width=8))
    tokens = jnp.zeros((1, 2), jnp.int32)

    def make(size, *, step=1, labels=None, **quantities):
        labels = np.zeros(size, np.int32) if labels is None else labels
        batch = Batch(
            image=np.zeros((size, 8, 8, 3), np.uint8),
            label=jnp.asarray(labels, jnp.int32),
            caption=np.zeros(size, np.int32),
            mask=np.ones(size, bool),
        )
        views = Views(
            encoder=encoder,
            classifier=ZeroShot(),
            params={},
            teacher_params=None,
            tables=Tables(captions=tokens, class_tokens=tokens[None]),
            batch=batch,
            step=jnp.int32(step),
        )
        vars(views).update(quantities)  # where cached properties keep what they computed
        return views

    return make


@pytest.fixture(scope="session")
def pairs():
    """Returns a function: a model's unit-norm embeddings in float64, with the logit scale."""

    def make(seed, *, size=6, width=5, scale=10.0):
        rng = np.random.default_rng(seed)
        image, text = rng.normal(size=(2, size, width))
        image /= np.linalg.norm(image, axis=1, keepdims=True)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        return image, text, np.float64(scale)

    return make
