"""Order, shares and resumption of batches of cached features."""

import collections
import itertools

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data.features import feature_batches

FEATURES = np.random.default_rng(0).normal(size=(36, 5)).astype(np.float32)
LABELS = np.arange(36) % 3
ROWS = {row.tobytes(): index for index, row in enumerate(FEATURES)}


def batches(*, batch_size=12, seed=0, **options):
    return feature_batches(FEATURES, LABELS, batch_size=batch_size, seed=seed, **options)


def take(iterator, count):
    """The rows of each batch."""
    found = []
    for batch in itertools.islice(iterator, count):
        rows = [ROWS[feature.tobytes()] for feature in batch.features]
        np.testing.assert_array_equal(batch.label, LABELS[rows])
        found.append(rows)
    return found


def test_a_batch_is_features_and_labels_alone():
    batch = next(batches())
    assert batch.image.shape == (12, 0, 0, 3)
    assert batch.mask.all() and batch.taps is None and not batch.caption.any()
    dtypes = [x.dtype for x in (batch.image, batch.features, batch.label, batch.caption)]
    assert dtypes == [np.uint8, np.float32, np.int32, np.int32]


def test_every_example_once_an_epoch_in_a_new_order():
    epochs = [sum(take(iterator, 3), []) for iterator in [batches()] for _ in range(3)]
    assert all(sorted(epoch) == list(range(36)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_remainder_goes_on_in_the_next_epoch():
    """With 36 examples and batches of 8, nine batches are two epochs."""
    seen = collections.Counter(itertools.chain(*take(batches(batch_size=8), 9)))
    assert set(seen) == set(range(36)) and set(seen.values()) == {2}


def test_the_seed_alone_decides():
    first = take(batches(), 4)
    assert first == take(batches(), 4)
    assert first != take(batches(seed=1), 4)


@pytest.mark.parametrize("count", [2, 3])
def test_the_processes_share_each_batch_of_one_process(count):
    shares = [take(batches(process_index=i, process_count=count), 5) for i in range(count)]
    for number, whole in enumerate(take(batches(), 5)):
        for i, share in enumerate(shares):
            assert share[number] == whole[i::count]


def test_the_state_resumes_where_it_was_taken():
    straight = batches()
    take(straight, 4)
    state = straight.get_state()
    expected = take(straight, 4)
    resumed = batches()
    take(resumed, 1)
    resumed.set_state(state)
    assert take(resumed, 4) == expected


def test_more_examples_a_batch_than_there_are():
    message = r"training.batch_size: got 40, expected at most the 36 cached features\. Lower it"
    with pytest.raises(ConfigError, match=message):
        batches(batch_size=40)
