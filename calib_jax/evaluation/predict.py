"""Predictions of whole splits, made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8
from tqdm import tqdm

from calib_jax.classifiers.head import Classifier, Head
from calib_jax.core.sharding import batched
from calib_jax.core.types import Params, Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.pipeline import evaluation_batches
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Tables


@partial(jax.jit, static_argnames="encoder")
def features_and_logits(
    encoder: Encoder, params: Params, head: Head, images: UInt8[Array, "b h w 3"]
) -> tuple[Float[Array, "b d"], Float[Array, "b c"]]:
    """Un-normalised image features and class logits of one batch."""
    features = encoder.encode_image(params, images)
    return features, head.logits(features)


class Predictor:
    """Applies a classifier to splits; what it compiles serves for all parameters and splits."""

    def __init__(
        self,
        encoder: Encoder,
        classifier: Classifier,
        tables: Tables,
        *,
        mesh: Mesh,
        batch_size: int,
    ):
        """Args name the model, the class prompts, the devices and the images per batch."""
        self._encoder = encoder
        self._mesh = mesh
        self._batch_size = batch_size
        self._class_tokens = tables.class_tokens
        self._head = jax.jit(
            lambda params, class_tokens: classifier.head(
                params["classifier"], encoder, params["encoder"], class_tokens
            )
        )

    def __call__(
        self,
        params: Params,
        splits: Mapping[str, ImageSplit],
        *,
        limit: int | None = None,
        bar: str | None = None,
    ) -> dict[str, Predictions]:
        """What the model says about each split, in the split's order; the text tower runs once.

        Args:
            params: `{"encoder": ..., "classifier": ...}`.
            splits: By name.
            limit: Take only so many examples of each, spread evenly.
            bar: The title of a progress bar; None shows none.
        """
        head = self._head(params, self._class_tokens)
        return {
            name: self._predict(params, head, split, limit)
            for name, split in tqdm(splits.items(), desc=bar, unit="set", disable=bar is None)
        }

    def _predict(
        self, params: Params, head: Head, split: ImageSplit, limit: int | None
    ) -> Predictions:
        features, logits, labels = [], [], []
        batches = evaluation_batches(
            split,
            batch_size=self._batch_size,
            limit=limit,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        for batch in batches:
            images = jax.make_array_from_process_local_data(
                batched(self._mesh), np.asarray(batch.image)
            )
            outputs = features_and_logits(self._encoder, params["encoder"], head, images)
            mask = _gather(batch.mask)
            features.append(_gather(outputs[0])[mask])
            logits.append(_gather(outputs[1])[mask])
            labels.append(_gather(batch.label)[mask])
        return Predictions(
            logits=np.concatenate(logits),
            labels=np.concatenate(labels),
            features=np.concatenate(features),
            class_embeddings=np.asarray(head.class_embeddings()),
        )


def _gather(rows: Array | np.ndarray) -> np.ndarray:
    """The rows of all processes, on the host."""
    if jax.process_count() == 1:
        return np.asarray(rows)
    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))
