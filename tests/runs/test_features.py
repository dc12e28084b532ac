"""Features of training images, as heads are trained on them."""

import dataclasses

import numpy as np

from calib_jax.core.sharding import make_mesh
from calib_jax.methods.probes import linear_probe
from calib_jax.runs.experiment import FINETUNE
from calib_jax.runs.features import Features, unit
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import read_texts
from calib_jax.training.start import initial_params


def test_a_repeated_source_is_looked_at_once_and_counts_as_often(from_pretrained, tiny_data):
    experiment = from_pretrained(methods={"probe": linear_probe()})
    (source,) = experiment.finetune.sources
    experiment.finetune.sources = (dataclasses.replace(source, repeats=2),)
    mesh = make_mesh()
    texts = read_texts(experiment, mesh)
    splits = Splits(experiment, (tiny_data,), image_size=texts.encoder.config.vision.image_size)
    features = Features(experiment, texts, splits, mesh)
    method = experiment.methods["probe"]
    params = initial_params(method, texts.encoder, texts.pretrained, texts.tables[FINETUNE], 0)
    found, labels = features.of_training(FINETUNE, method, params)
    assert found.shape == (48, texts.encoder.config.embed_dim)
    np.testing.assert_array_equal(found[:24], found[24:])
    np.testing.assert_array_equal(labels, np.tile(np.arange(24) % 3, 2))
    assert features.of_training(FINETUNE, method, params)[0] is found
    batch = next(features.batches(FINETUNE, method, params, batch_size=8, seed=0))
    rows = {row.tobytes() for row in found}
    assert all(row.tobytes() in rows for row in np.asarray(batch.features))


def test_rows_have_length_one():
    rows = unit(np.array([[3.0, 4.0], [0.5, 0.0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [1.0, 0.0]], rtol=1e-6)
