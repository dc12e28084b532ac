import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core import rngs
from calib_jax.core.sharding import make_mesh
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.predict import Predictor


@pytest.fixture(scope="module")
def split(tiny_data):
    return ImageSplit(Split(name="tiny_colours", split="test"), [tiny_data], image_size=16)


@pytest.mark.parametrize("classifier", [ZeroShot(), LinearHead()])
def test_predictions_are_those_of_the_whole_split_at_once(
    tiny_model, tiny_batches, split, classifier
):
    """10 images in batches of 8 over 8 devices, padded: equal to one plain call."""
    encoder, encoder_params = tiny_model
    tables, _ = tiny_batches
    own = classifier.init(rngs.key(0, 0, "c"), encoder, encoder_params, tables.class_tokens)
    params = {"encoder": encoder_params, "classifier": own}
    predictor = Predictor(encoder, classifier, tables, mesh=make_mesh(), batch_size=8)
    predictions = predictor(params, {"test": split})["test"]
    images = jnp.stack([split.image(i) for i in range(10)])
    features = np.asarray(encoder.encode_image(encoder_params, images))
    np.testing.assert_allclose(predictions.features, features, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predictions.labels, np.arange(10) % 3)
    texts = np.asarray(encoder.encode_text(encoder_params, tables.class_tokens.reshape(6, -1)))
    texts = texts / np.linalg.norm(texts, axis=-1, keepdims=True)
    classes = texts.reshape(3, 2, -1).mean(axis=1)
    classes /= np.linalg.norm(classes, axis=-1, keepdims=True)
    np.testing.assert_allclose(predictions.class_embeddings, classes, rtol=1e-4, atol=1e-5)
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(predictions.similarities(), unit @ classes.T, rtol=1e-4, atol=1e-5)
    scale = float(encoder.logit_scale(encoder_params))
    np.testing.assert_allclose(
        predictions.logits, scale * unit @ classes.T, rtol=1e-4, atol=1e-4 * scale
    )


def test_the_device_may_resize(tiny_model, tiny_batches, tiny_data, split):
    encoder, encoder_params = tiny_model
    tables, _ = tiny_batches
    params = {"encoder": encoder_params, "classifier": {}}
    predictor = Predictor(encoder, ZeroShot(), tables, mesh=make_mesh(), batch_size=8)
    named = Split(name="tiny_colours", split="test")
    canvases = ImageSplit(named, [tiny_data], image_size=16, resize="device")
    assert canvases.frame(0).pixels.shape == (36, 36, 3)
    found = predictor(params, {"host": split, "device": canvases})
    np.testing.assert_allclose(found["device"].logits, found["host"].logits, rtol=1e-6)
    np.testing.assert_array_equal(found["device"].labels, found["host"].labels)


def test_limit_takes_examples_spread_evenly(tiny_model, tiny_batches, split):
    encoder, encoder_params = tiny_model
    tables, _ = tiny_batches
    params = {"encoder": encoder_params, "classifier": {}}
    predictor = Predictor(encoder, ZeroShot(), tables, mesh=make_mesh(), batch_size=8)
    every = predictor(params, {"test": split})["test"]
    some = predictor(params, {"test": split}, limit=5)["test"]
    np.testing.assert_allclose(some.logits, every.logits[::2], rtol=1e-5, atol=1e-5)
    assert jax.device_count() == 8
