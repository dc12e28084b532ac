"""Endless shuffled training batches of cached image features."""

from __future__ import annotations

import grain
import numpy as np
from jaxtyping import Float, Int

from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Batch


def feature_batches(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Endless batches of this process, without images or captions, reshuffled every epoch.

    The global batch k holds the same examples for any number of processes; the state of the
    iterator is one number.

    Args:
        features: Of all training images, as the frozen encoder gives them.
        labels: Class indices.
        batch_size: Of all processes together.
        seed: Of the order.
        process_index: Which share of each batch is this process's.
        process_count: The number of shares.

    Raises:
        ConfigError: There are fewer examples than one batch needs.
    """
    if len(features) < batch_size:
        raise ConfigError(
            f"training.batch_size: got {batch_size}, expected at most the {len(features)} cached "
            "features. Lower it."
        )
    local_size = batch_size // process_count

    def gathered(rows: Int[np.ndarray, " b"]) -> Batch:
        return Batch(
            image=np.zeros((local_size, 0, 0, 3), np.uint8),
            label=labels[rows].astype(np.int32),
            caption=np.zeros(local_size, np.int32),
            mask=np.ones(local_size, np.bool_),
            features=features[rows].astype(np.float32),
        )

    # Rows are numbers until a batch is full: one gather a batch, not one copy an example.
    dataset = (
        grain.MapDataset.range(len(features))
        .seed(seed)
        .shuffle()
        .repeat()
        .slice(slice(process_index, None, process_count))
        .batch(local_size, drop_remainder=True)
        .map(gathered)
    )
    # In the main thread: a gather is shorter than the hand-over from another one.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))
