"""Which slices share examples, against what TFDS makes of them."""

import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from calib_jax.data.datasets.records import Split
from calib_jax.data.datasets.slices import may_overlap

NUM_EXAMPLES = 400  # of fewer than 50, TFDS rounds -1% to all


def split(text, name="digits", share=(0.0, 1.0)):
    return Split(name=name, split=text, share=share)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("train", "test", False),
        ("train", "train", True),
        ("train[:10]", "train[10:]", False),
        ("train[:11]", "train[10:]", True),
        ("train[:90%]", "train[-10%:]", False),
        ("train[:91%]", "train[-10%:]", True),
        ("train[-10:]", "train[:-10]", False),
        ("train+test", "validation+test", True),
        ("train[:10]+test", "train[10:]", False),
        ("train[1:]", "train[0%:1]", True),  # to TFDS that is 0% to 1%
        ("train[10%:20]", "train[20%:]", False),
        ("train[:10]", "train[90%:]", True),  # nobody knows without the number of examples
    ],
)
def test_slices(first, second, expected):
    assert may_overlap(split(first), split(second)) is expected
    assert may_overlap(split(second), split(first)) is expected


def test_other_data_sets_and_shares_stay_apart():
    assert not may_overlap(split("train"), split("train", name="letters"))
    low, high = split("train", share=(0.0, 0.5)), split("train", share=(0.5, 1.0))
    assert not may_overlap(low, high) and may_overlap(low, split("train", share=(0.4, 0.6)))


BOUND = st.one_of(
    st.just(""),
    st.integers(-NUM_EXAMPLES, NUM_EXAMPLES).map(str),
    st.integers(-100, 100).map(lambda share: f"{share}%"),
)


@given(st.lists(BOUND, min_size=4, max_size=4))
def test_slices_that_share_an_example_are_never_taken_for_apart(bounds):
    first, second = (
        f"train[{low}:{high}]" if low or high else "train" for low, high in (bounds[:2], bounds[2:])
    )
    lengths = tfds.core.SplitDict(
        [
            tfds.core.SplitInfo(
                name="train",
                shard_lengths=[NUM_EXAMPLES],
                num_bytes=0,
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir="/", dataset_name="digits", split="train", filetype_suffix="tfrecord"
                ),
            )
        ]
    )

    def rows(text):
        try:
            (part,) = tfds.core.ReadInstruction.from_spec(text).to_absolute(lengths)
        except ValueError:  # beyond the examples, or backwards: TFDS opens none
            return set()
        return set(range(part.from_ or 0, NUM_EXAMPLES if part.to is None else part.to))

    if rows(first) & rows(second):
        assert may_overlap(split(first), split(second))
