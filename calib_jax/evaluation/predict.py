"""Predictions of whole splits, made once."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32, UInt8

from calib_jax.classifiers.head import (
    PROMPTS_AT_ONCE,
    Classifier,
    Head,
    PrototypeHead,
    check_tree,
)
from calib_jax.classifiers.stored import kept_head
from calib_jax.core import progress
from calib_jax.core.numerics import spread
from calib_jax.core.resampling import resample
from calib_jax.core.sharding import batched
from calib_jax.core.types import Params, Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.pipeline import evaluation_batches
from calib_jax.evaluation.store import Store, in_memory
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Tables


@partial(jax.jit, static_argnames="encoder")
def features_and_logits(
    encoder: Encoder,
    params: Params,
    head: Head,
    images: UInt8[Array, "b h w 3"],
    taps: Int32[Array, "b 2 o k"] | None = None,
) -> tuple[Float[Array, "b d"], Float[Array, "b c"]]:
    """Un-normalised image features and class logits of one batch, resized first if with taps."""
    if taps is not None:
        images = resample(images, taps)
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
        cache: pathlib.Path | None = None,
    ):
        """Keeps what it needs for any parameters and split.

        Args:
            encoder: The towers.
            classifier: Makes the head.
            tables: With the class prompts.
            mesh: All devices.
            batch_size: Images at a time, over all devices.
            cache: Where heads of many prompts are kept; None keeps none.
        """
        self._encoder = encoder
        self._classifier = classifier
        self._cache = cache
        self._mesh = mesh
        self._batch_size = batch_size
        self._class_tokens = tables.class_tokens

    def head(self, params: Params) -> Head:
        """The head for these parameters; one of many prompts comes from the cache."""
        tokens = self._class_tokens
        num_prompts = tokens.shape[0] * tokens.shape[1]
        if self._cache is None or num_prompts <= PROMPTS_AT_ONCE or jax.process_count() > 1:
            return self._make_head(params, tokens)
        return kept_head(self._cache, self._classifier, self._encoder, params, tokens)

    def _quick_head(self, params: Params) -> Head:
        """The head for parameters that are not here to stay, of each class's first prompts."""
        tokens = self._class_tokens
        return self._make_head(params, tokens[:, : max(1, PROMPTS_AT_ONCE // len(tokens))])

    def _make_head(self, params: Params, tokens: Int[Array, "c k t"]) -> Head:
        made = self._classifier.head(params["classifier"], self._encoder, params["encoder"], tokens)
        check_tree(made, self._classifier)
        return made

    def __call__(
        self,
        params: Params,
        splits: Mapping[str, ImageSplit],
        *,
        limit: int | None = None,
        store: Store | None = None,
        bar: str | None = None,
    ) -> dict[str, Predictions]:
        """What the model says about each split, in the split's order; the text tower runs once.

        Args:
            params: `{"encoder": ..., "classifier": ...}`.
            splits: By name.
            limit: For a quick look: only so many examples of each, spread evenly, and of each class
                only the first prompts (1,024 in all, or one a class).
            store: Keeps the predictions; None: they are in memory alone.
            bar: The title of its progress; None shows none.
        """
        head = self.head(params) if limit is None else self._quick_head(params)
        total = sum(len(spread(len(split), limit)) for split in splits.values())
        board = progress.Board(is_shown=False) if bar is None else progress.board()
        with board.stage(bar or "", total=total, unit="image") as stage:
            return {
                name: self._predict(
                    params, head, name, split, limit=limit, stage=stage, store=store
                )
                for name, split in splits.items()
            }

    def _predict(
        self,
        params: Params,
        head: Head,
        name: str,
        split: ImageSplit,
        *,
        limit: int | None,
        stage: progress.StageProgress,
        store: Store | None,
    ) -> Predictions:
        batches = self._batches(params, head, split, limit, stage)
        num_examples = len(spread(len(split), limit))
        embeddings = None
        if isinstance(head, PrototypeHead):
            embeddings = np.asarray(head.class_embeddings())
        if store is None:
            return in_memory(batches, num_examples, embeddings)
        return store.write(name, batches, num_examples, embeddings)

    def _batches(
        self,
        params: Params,
        head: Head,
        split: ImageSplit,
        limit: int | None,
        stage: progress.StageProgress,
    ) -> Iterator[dict[str, np.ndarray]]:
        """What the model says of each batch, on the host, without padding."""
        batches = evaluation_batches(
            split,
            batch_size=self._batch_size,
            limit=limit,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        for batch in batches:
            images, taps = jax.tree.map(
                lambda leaf: jax.make_array_from_process_local_data(
                    batched(self._mesh), np.asarray(leaf)
                ),
                (batch.image, batch.taps),
            )
            features, logits = features_and_logits(
                self._encoder, params["encoder"], head, images, taps
            )
            mask = _gather(batch.mask)
            rows = {"logits": logits, "features": features, "labels": batch.label}
            found = {name: _gather(values)[mask] for name, values in rows.items()}
            stage.advance(len(found["labels"]))
            yield found


def _gather(rows: Array | np.ndarray) -> np.ndarray:
    """The rows of all processes, on the host."""
    if jax.process_count() == 1:
        return np.asarray(rows)
    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))
