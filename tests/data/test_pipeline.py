"""Order, captions, views, shares and resumption of training batches; evaluation in order."""

import collections
import itertools

import jax
import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.resampling import resample
from calib_jax.data import pipeline
from calib_jax.data.captions import CaptionTable
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Augmentation, CaptionedImages, Source

RESAMPLE = jax.jit(resample)
NAMES = ("red", "green", "dark blue")
TABLE = CaptionTable(NAMES, ("a {}", "one {}", "the {}", "some {}"))
PLAIN = Augmentation(crop_scale=(1.0, 1.0))


def negative(pixels, rng):
    del rng
    return 255 - pixels


@pytest.fixture(scope="module")
def open_split(tiny_data):
    def open_split(split):
        named = Split(name="tiny_colours", split=split)
        return ImageSplit(named, [tiny_data], image_size=16, class_names=NAMES)

    return open_split


@pytest.fixture(scope="module")
def images(open_split):
    """24 training images with two templates, then 12 validation images in negative with one."""
    sources = (
        Source(split=Split(name="tiny_colours", split="train"), templates=("one {}", "the {}")),
        Source(
            split=Split(name="tiny_colours", split="validation"),
            templates=("some {}",),
            style=negative,
        ),
    )
    return CaptionedImages(sources, [open_split("train"), open_split("validation")], TABLE)


def batches(images, *, batch_size=12, seed=0, augmentation=PLAIN, **options):
    return pipeline.training_batches(
        images,
        batch_size=batch_size,
        image_size=16,
        augmentation=augmentation,
        seed=seed,
        **options,
    )


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def key_of(pixels):
    return pixels.tobytes()


def rows(batch):
    """The examples of a batch, whatever their order."""
    return sorted(
        zip(map(key_of, batch.image), batch.label.tolist(), batch.caption.tolist(), strict=True)
    )


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.1), (-0.1, 0.5)])
def test_a_share_outside_its_range(scale):
    with pytest.raises(ConfigError, match=r"^mine.crop_scale: got \(.*expected 0 < low"):
        Augmentation(crop_scale=scale).validate(field="mine")
    Augmentation().validate(field="mine")


def test_sources_that_repeat_or_have_no_captions(open_split):
    """With 10 images twice and 12 without captions three times, seven batches of 8 are an epoch."""
    sources = [
        Source(split=Split(name="tiny_colours"), templates=("the {}",), repeats=2),
        Source(split=Split(name="tiny_colours", split="validation"), templates=(), repeats=3),
    ]
    splits = [open_split("test"), open_split("validation")]
    expected = collections.Counter()
    for source, split in zip(sources, splits, strict=True):
        for i, label in enumerate(split.labels().tolist()):
            row = TABLE.row(label, 2) if source.templates else 0
            expected[key_of(split.image(i)), label, row] += source.repeats
    iterator = batches(CaptionedImages(sources, splits, TABLE), batch_size=8)
    for _ in range(2):
        seen = itertools.chain.from_iterable(map(rows, take(iterator, 7)))
        assert collections.Counter(seen) == expected
    sources[0].repeats = 0
    with pytest.raises(ConfigError, match=r"^mine\.repeats: got 0, expected at least 1\. Correct"):
        sources[0].validate(field="mine")


def test_sources_are_concatenated(images, open_split):
    assert len(images) == 36
    ends = {0: (0, "train", 0), 23: (0, "train", 23), 24: (1, "validation", 0)}
    for index, (number, split, local) in {**ends, 35: (1, "validation", 11)}.items():
        got = images[index]
        assert got[0] == number
        np.testing.assert_array_equal(got[1], open_split(split).image(local))
        assert got[2] == open_split(split).label(local) == index % 3
    assert (images.style(0), images.style(1)) == (None, negative)


def test_a_caption_is_one_of_the_sources_templates(images):
    rng = np.random.default_rng(0)
    drawn = collections.Counter(images.caption(0, 2, draw) for draw in rng.random(200))
    assert set(drawn) == {TABLE.row(2, 1), TABLE.row(2, 2)}
    assert min(drawn.values()) > 70
    assert {images.caption(1, 0, draw) for draw in rng.random(20)} == {TABLE.row(0, 3)}


def test_batches_are_uint8_with_int32_labels(images):
    (batch,) = take(batches(images), 1)
    assert batch.image.shape == (12, 16, 16, 3)
    dtypes = [leaf.dtype for leaf in (batch.image, batch.label, batch.caption)]
    assert dtypes == [np.uint8, np.int32, np.int32]
    assert batch.mask.all()


def test_every_image_once_an_epoch_with_its_label_style_and_a_caption(images):
    expected = {}
    for index in range(36):
        number, pixels, label = images[index]
        expected[key_of(255 - pixels if number else pixels)] = (number, label)
    iterator = batches(images)
    for _ in range(3):
        seen = list(itertools.chain.from_iterable(map(rows, take(iterator, 3))))
        assert sorted(pixels for pixels, _, _ in seen) == sorted(expected)
        for pixels, label, caption in seen:
            number, own = expected[pixels]
            assert label == own
            allowed = (1, 2) if number == 0 else (3,)
            assert caption in [TABLE.row(label, template) for template in allowed]


def test_the_seed_alone_decides(images):
    random = Augmentation(crop_scale=(0.3, 1.0), flip=True)
    first = take(batches(images, augmentation=random), 4)
    assert_equal(first, take(batches(images, augmentation=random), 4))
    other = take(batches(images, augmentation=random, seed=1), 4)
    assert not np.array_equal(first[0].image, other[0].image)


def test_epochs_differ_in_order_captions_and_views(images):
    iterator = batches(images, batch_size=36)
    first, second = take(iterator, 2)
    assert not np.array_equal(first.image, second.image)
    captions = [dict((pixels, caption) for pixels, _, caption in rows(x)) for x in (first, second)]
    assert captions[0] != captions[1]
    random = batches(images, batch_size=36, augmentation=Augmentation(crop_scale=(0.3, 0.9)))
    first, second = take(random, 2)
    assert not {pixels for pixels, _, _ in rows(first)} & {pixels for pixels, _, _ in rows(second)}


def test_a_remainder_goes_on_in_the_next_epoch(images):
    """With 36 images and batches of 8, nine batches are two epochs."""
    seen = collections.Counter(
        pixels for batch in take(batches(images, batch_size=8), 9) for pixels, _, _ in rows(batch)
    )
    assert set(seen.values()) == {2}


@pytest.mark.parametrize("count", [2, 3])
def test_the_processes_share_each_batch_of_one_process(images, count):
    random = Augmentation(crop_scale=(0.3, 1.0), flip=True)
    whole = take(batches(images, augmentation=random), 5)
    shares = [
        take(batches(images, augmentation=random, process_index=i, process_count=count), 5)
        for i in range(count)
    ]
    for number, batch in enumerate(whole):
        parts = [rows(share[number]) for share in shares]
        assert all(len(part) == 12 // count for part in parts)
        assert sorted(itertools.chain.from_iterable(parts)) == rows(batch)


def test_the_state_resumes_where_it_was_taken(images):
    random = Augmentation(crop_scale=(0.3, 1.0), flip=True)
    straight = batches(images, augmentation=random)
    take(straight, 4)
    state = straight.get_state()
    expected = take(straight, 4)
    resumed = batches(images, augmentation=random)
    take(resumed, 1)
    resumed.set_state(state)
    assert_equal(expected, take(resumed, 4))


def test_half_of_the_images_are_mirrored(images):
    plain = {key_of(255 - p if n else p) for n, p, _ in (images[i] for i in range(36))}
    mirrored = 0
    for batch in take(
        batches(images, augmentation=Augmentation(crop_scale=(1.0, 1.0), flip=True)), 9
    ):
        for pixels in batch.image:
            is_plain = key_of(pixels) in plain
            assert is_plain or key_of(np.ascontiguousarray(pixels[:, ::-1])) in plain
            mirrored += not is_plain
    assert 30 < mirrored < 78  # of 108: four standard deviations


@pytest.fixture(scope="module")
def larger_images(tiny_data):
    """Stored with 16 x 16 pixels, for a model of 8 x 8: what the style sees is what is stored."""
    split = Split(name="tiny_colours", split="train")
    seen = []

    def look(pixels, rng):
        seen.append(pixels.shape)
        return pixels

    sources = (Source(split=split, templates=TABLE.templates, style=look),)
    opened = ImageSplit(split, [tiny_data], image_size=8, class_names=NAMES)
    return CaptionedImages(sources, [opened], TABLE), opened, seen


def views(larger_images, resize, **augmentation):
    """The images of two batches as the encoder gets them."""
    iterator = pipeline.training_batches(
        larger_images[0],
        batch_size=12,
        image_size=8,
        augmentation=Augmentation(**augmentation),
        seed=0,
        resize=resize,
    )
    found = []
    for batch in take(iterator, 2):
        assert (batch.taps is not None) == (resize == "device")
        size = 18 if resize == "device" else 8
        assert batch.image.shape == (12, size, size, 3)
        found.append(batch.image if batch.taps is None else RESAMPLE(batch.image, batch.taps))
    return np.concatenate(found).astype(int)


@pytest.mark.parametrize("resize", ["host", "device"])
def test_the_whole_of_a_larger_image_is_its_evaluation_view(larger_images, resize):
    _, opened, seen = larger_images
    got = views(larger_images, resize, crop_scale=(1.0, 1.0))
    assert {key_of(pixels) for pixels in got} == {
        key_of(opened.image(index).astype(int)) for index in range(24)
    }
    assert set(seen) == {(16, 16, 3)}


def test_random_views_are_windows_of_the_stored_image_in_every_way(larger_images):
    host, device = (
        views(larger_images, resize, crop_scale=(0.2, 0.5), flip=True)
        for resize in ("host", "device")
    )
    np.testing.assert_array_equal(device, host)


def test_more_images_a_batch_than_there_are(images):
    message = r"training.batch_size: got 40, expected at most the 36 training images\. Lower it"
    with pytest.raises(ConfigError, match=message):
        batches(images, batch_size=40)


def valid(batches):
    """Images and labels of the rows that count, in order."""
    found = [(b.image[b.mask], b.label[b.mask]) for b in batches]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


@pytest.mark.parametrize("batch_size", [4, 5, 16])
def test_evaluation_is_the_split_in_order_with_a_padded_last_batch(open_split, batch_size):
    split = open_split("test")
    got = list(pipeline.evaluation_batches(split, batch_size=batch_size))
    assert len(got) == -(-10 // batch_size)
    assert all(batch.image.shape == (batch_size, 16, 16, 3) for batch in got)
    images, labels = valid(got)
    np.testing.assert_array_equal(images, [split.image(i) for i in range(10)])
    np.testing.assert_array_equal(labels, split.labels())
    last = got[-1]
    assert last.mask.sum() == (10 - 1) % batch_size + 1
    for leaf in (last.image, last.label, last.caption):
        assert not leaf[~last.mask].any()


def test_evaluation_on_canvases(tiny_data):
    named = Split(name="tiny_colours", split="test")
    split = ImageSplit(named, [tiny_data], image_size=8, resize="device")
    for batch in pipeline.evaluation_batches(split, batch_size=4):
        images = np.asarray(RESAMPLE(batch.image, batch.taps))
        count = batch.mask.sum()
        assert not images[count:].any()
        rows = [int(np.argmax(image.sum((0, 1)))) for image in images[:count]]
        assert rows == batch.label[:count].tolist()
    np.testing.assert_array_equal(images[1], split.image(9))


def test_evaluation_takes_a_spread_subset(open_split):
    split = open_split("test")
    images, labels = valid(pipeline.evaluation_batches(split, batch_size=3, limit=4))
    np.testing.assert_array_equal(images, [split.image(i) for i in (0, 2, 5, 7)])
    np.testing.assert_array_equal(labels, split.labels()[[0, 2, 5, 7]])


def test_processes_evaluate_their_share_of_the_rows(open_split):
    """The last batch of four holds two images: the second process gets padding only."""
    split = open_split("test")
    whole = list(pipeline.evaluation_batches(split, batch_size=4))
    shares = [
        list(pipeline.evaluation_batches(split, batch_size=4, process_index=i, process_count=2))
        for i in range(2)
    ]
    assert_equal(
        whole,
        [
            jax.tree.map(lambda *parts: np.concatenate(parts), *parts)
            for parts in zip(*shares, strict=True)
        ],
    )
    assert not shares[1][-1].mask.any()


def test_batches_go_around_the_end(open_split):
    split = open_split("validation")
    found = list(pipeline.cycled_batches(split, 4, batch_size=5))
    assert all(batch.mask.all() for batch in found)
    labels = np.concatenate([batch.label for batch in found])
    np.testing.assert_array_equal(labels, np.tile(split.labels(), 2)[:20])
    halves = [
        list(pipeline.cycled_batches(split, 2, batch_size=4, process_index=i, process_count=2))
        for i in range(2)
    ]
    joined = np.concatenate(
        [np.concatenate([a.label, b.label]) for a, b in zip(*halves, strict=True)]
    )
    np.testing.assert_array_equal(joined, split.labels()[:8])
