"""The evaluation view against Pillow; tests/data/test_images.py has the photographs."""

import numpy as np
import pytest
from PIL import Image

from calib_jax.data import resizing
from calib_jax.data.resizing import Axis, resize_and_crop

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


@pytest.mark.parametrize("shape", [(30, 40), (40, 30), (31, 31), (5, 9)])
def test_resize_and_crop_is_the_centre_of_the_resized_image(shape):
    pixels = PIXELS[: shape[0], : shape[1]] if shape[0] <= 30 else np.resize(PIXELS, (*shape, 3))
    height, width = shape
    size = 16
    new_height, new_width = (
        (size, size * width // height) if height <= width else (size * height // width, size)
    )
    resized = np.asarray(
        Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BICUBIC)
    )
    top, left = round((new_height - size) / 2), round((new_width - size) / 2)
    expected = resized[top : top + size, left : left + size]
    np.testing.assert_array_equal(resize_and_crop(pixels, size), expected)


def test_the_longer_side_is_exact():
    """224 / 49 * 98 is below 448 in floating point."""
    pixels = np.zeros((49, 98, 3), np.uint8)
    pixels[:, 49:] = 255
    middle = resize_and_crop(pixels, 224)[0, :, 0]
    np.testing.assert_array_equal(middle[::-1], 255 - middle)


def test_an_image_of_the_size_is_left_alone():
    assert resize_and_crop(PIXELS[:, :30], 30) is not None
    np.testing.assert_array_equal(resize_and_crop(PIXELS[:, :30], 30), PIXELS[:, :30])


def test_an_axis_keeps_its_middle():
    axis = Axis(stored=100, resized=50, size=20)
    assert axis.kept == slice(15, 35)
    # Two output pixels of support on either side, twice as wide in the image.
    assert axis.needed == slice(26, 74)
    assert axis.num_needed == 48
    taps = axis.taps()
    assert taps.shape == (20, 1 + 9)
    np.testing.assert_allclose(taps[:, 1:].sum(1), 2**22, atol=9)
    assert taps[0, 0] + axis.needed.start == 27
    assert axis.taps(15).shape == (20, 16)
    np.testing.assert_array_equal(axis.taps(15)[:, :10], taps)


def test_an_axis_ends_at_the_edges():
    axis = Axis(stored=9, resized=18, size=18)
    assert axis.needed == slice(0, 9)
    assert axis.taps()[0, 0] == 0
    last = axis.taps()[-1]
    assert not last[1:][np.arange(len(last) - 1) >= 9 - last[0]].any()


def test_both_axes_of_a_photograph():
    rows, columns = resizing.view_axes(np.zeros((375, 500, 3), np.uint8), 224)
    assert (rows.stored, rows.resized, rows.size) == (375, 224, 224)
    assert (columns.stored, columns.resized, columns.size) == (500, 298, 224)
    assert not resizing.may_start_with_rows(rows, columns)
    assert resizing.may_start_with_rows(columns, Axis(stored=224, resized=224, size=224))


def test_a_stretch_takes_the_columns_first():
    stretched = resizing.resize(PIXELS, Axis(30, 7, 7), Axis(40, 11, 11))
    wide = Image.fromarray(PIXELS).resize((11, 30), Image.Resampling.BICUBIC)
    expected = np.asarray(wide.resize((11, 7), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(stretched, expected)
