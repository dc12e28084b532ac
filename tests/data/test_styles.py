"""Every style keeps size and type, depends on its rng alone, and does what its name says."""

import numpy as np
import pytest
from sklearn import datasets

from calib_jax.data import styles

STYLES = (
    styles.rotated,
    styles.tinted,
    styles.sketch,
    styles.blurred,
    styles.noisy,
    styles.occluded,
    styles.grayscale,
    styles.posterized,
    styles.pixelated,
    styles.low_contrast,
    styles.thickened,
    styles.thinned,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photo():
    return datasets.load_sample_image("flower.jpg")[100:132, 200:232].copy()


@pytest.fixture
def stroke():
    """A white bar, 8 pixels wide, on black."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[6:26, 12:20] = 255
    return image


def resized(photo, shape):
    rows = np.arange(shape[0]) * photo.shape[0] // shape[0]
    columns = np.arange(shape[1]) * photo.shape[1] // shape[1]
    return photo[rows][:, columns]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
@pytest.mark.parametrize("shape", [(32, 32), (96, 96), (28, 41), (8, 8)])
def test_style_keeps_size_and_type_and_is_deterministic(style, shape, photo):
    image = resized(photo, shape)
    before = image.copy()
    first, again = style(image, rng(3)), style(image, rng(3))
    assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert not np.array_equal(first, image)


@pytest.mark.parametrize(
    "style", [s for s in STYLES if s is not styles.grayscale], ids=lambda style: style.__name__
)
def test_style_varies_with_its_rng(style, photo):
    results = {style(photo, rng(seed)).tobytes() for seed in range(8)}
    assert len(results) > 1


def test_rotated_turns_by_15_to_40_degrees():
    bar = np.zeros((64, 64, 3), np.uint8)
    bar[31:33, 4:60] = 255
    angles = []
    for seed in range(30):
        y, x = np.nonzero(styles.rotated(bar, rng(seed))[..., 0] > 128)
        angles.append(np.degrees(np.arctan(np.polyfit(x, y, 1)[0])))
    assert np.all((np.abs(angles) > 14) & (np.abs(angles) < 41))
    assert min(angles) < 0 < max(angles)


def test_rotated_leaves_a_flat_image_alone():
    flat = np.full((32, 48, 3), 77, np.uint8)
    np.testing.assert_array_equal(styles.rotated(flat, rng()), flat)


def test_tinted_inverts_the_order_of_brightness():
    ramp = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], 3, axis=2)
    result = styles.tinted(ramp, rng()).astype(int)
    assert np.all(np.diff(result, axis=1) <= 0)
    assert result[0, 0].min() >= 130 and result[0, -1].max() <= 80


def test_sketch_draws_dark_outlines_on_light_paper(stroke):
    result = styles.sketch(stroke, rng()).mean(axis=-1)
    assert result[0, 0] > 200 and result[16, 15] > 200
    assert result[16, 11:13].min() < 90 and result[16, 19:21].min() < 90


def test_sketch_of_a_flat_image_is_blank_paper():
    result = styles.sketch(np.full((32, 32, 3), 200, np.uint8), rng())
    assert np.ptp(result, axis=(0, 1)).max() == 0


def test_blurred_spreads_an_edge_by_the_stated_deviation():
    edge = np.zeros((32, 64, 3), np.uint8)
    edge[:, 32:] = 255
    positions = np.arange(63) - 31
    for seed in range(10):
        slope = np.diff(styles.blurred(edge, rng(seed))[16, :, 0].astype(float)) / 255
        np.testing.assert_allclose(slope.sum(), 1.0)
        assert 1.4 < np.sqrt((slope * positions**2).sum()) < 2.6


def test_noisy_adds_the_stated_deviation():
    gray = np.full((96, 96, 3), 128, np.uint8)
    for seed in range(5):
        noise = styles.noisy(gray, rng(seed)).astype(float) - 128
        assert abs(noise.mean()) < 2 and 28 < noise.std() < 62


@pytest.mark.parametrize("seed", range(20))
def test_occluded_covers_one_rectangle_of_at_most_a_quarter(seed, photo):
    changed = np.any(styles.occluded(photo, rng(seed)) != photo, axis=-1)
    y, x = np.nonzero(changed)
    box = (np.ptp(y) + 1) * (np.ptp(x) + 1)
    assert 0.07 * changed.size < box <= 0.25 * changed.size
    assert changed.sum() > 0.9 * box


def test_grayscale_is_the_luminance_in_every_channel(photo):
    result = styles.grayscale(photo, rng())
    expected = [
        [round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in row] for row in photo.tolist()
    ]
    for channel in range(3):
        np.testing.assert_allclose(result[..., channel], expected, atol=1)


def test_posterized_leaves_two_to_four_levels():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    counts = {len(np.unique(styles.posterized(ramp, rng(seed)))) for seed in range(20)}
    assert counts == {2, 3, 4}


def test_pixelated_averages_blocks(photo):
    result = styles.pixelated(photo, rng())
    runs = 1 + np.count_nonzero(np.any(np.diff(result.astype(int), axis=1) != 0, axis=(0, 2)))
    assert 8 <= runs <= 16
    assert abs(result.mean() - photo.mean()) < 3


def test_low_contrast_scales_the_deviation(photo):
    for seed in range(5):
        ratio = styles.low_contrast(photo, rng(seed)).std() / photo.std()
        assert 0.14 < ratio < 0.36


def test_thickened_and_thinned_change_the_width_by_two(stroke):
    def width(image):
        return int((image[16, :, 0] > 128).sum())

    assert width(styles.thickened(stroke, rng())) == 10
    assert width(styles.thinned(stroke, rng())) == 6


def test_thinned_restores_the_brightness():
    soft = np.zeros((32, 32, 3), np.uint8)
    soft[:, 15:18] = np.array([90, 240, 90], np.uint8)[None, :, None]
    assert styles.thinned(soft, rng()).max() >= 0.8 * 240


def test_thinned_of_black_is_black():
    black = np.zeros((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(styles.thinned(black, rng()), black)


@pytest.mark.parametrize("level", [0, 60, 200, 255])
def test_on_background_paints_in_a_contrasting_colour(level, stroke):
    background = np.full((32, 32, 3), level, np.uint8)
    result = styles.on_background(stroke, background, rng())
    is_stroke = stroke > 0
    np.testing.assert_array_equal(result[~is_stroke], level)
    assert np.abs(result[is_stroke].astype(int) - level).min() > 100


def test_on_background_of_an_empty_image_is_the_background(photo):
    empty = np.zeros_like(photo)
    np.testing.assert_array_equal(styles.on_background(empty, photo, rng()), photo)
