"""Decoding of good and broken files, and the two views against Pillow by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from calib_jax.core.errors import DataError
from calib_jax.data import images

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_a_png_is_decoded_exactly():
    data = encode(Image.fromarray(PIXELS))
    np.testing.assert_array_equal(images.decode(data, where="x"), PIXELS)


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("L", "PNG"),
        ("1", "PNG"),
        ("P", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("P", "GIF"),
    ],
)
def test_every_mode_becomes_rgb(mode, file_format):
    image = Image.fromarray(PIXELS).convert(mode)
    data = encode(image, file_format)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(images.decode(data, where="x"), expected)


def test_grey_is_repeated_and_alpha_dropped():
    grey = images.decode(encode(Image.fromarray(PIXELS[..., 0])), where="x")
    np.testing.assert_array_equal(grey, np.repeat(PIXELS[..., :1], 3, axis=-1))
    alpha = Image.fromarray(PIXELS)
    alpha.putalpha(0)
    np.testing.assert_array_equal(images.decode(encode(alpha), where="x"), PIXELS)


def test_a_palette_with_transparent_entries_is_decoded_without_a_warning():
    image = Image.fromarray(PIXELS).convert("P")
    data = encode(image, transparency=bytes(range(256)))
    np.testing.assert_array_equal(images.decode(data, where="x"), image.convert("RGB"))


def bomb():
    """A bitmap of two bytes a row that declares 2^17 x 2^17 pixels."""
    data = bytearray(encode(Image.fromarray(PIXELS), "BMP"))
    data[18:26] = np.array([1 << 17, 1 << 17], "<i4").tobytes()
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"0 bytes: cannot identify"),
        (b"<html>404 Not Found</html>", r"26 bytes: cannot identify"),
        (encode(Image.fromarray(PIXELS))[:200], r"200 bytes: .*(truncated|Truncated)"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:-40], r"truncated"),
        (encode(Image.fromarray(PIXELS))[:8], r"8 bytes: "),
        (bomb(), r"exceeds limit"),
    ],
    ids=["empty", "html", "cut png", "cut jpeg", "signature", "bomb"],
)
def test_what_is_no_whole_image_names_the_record(data, reason):
    message = rf"^set\[train\], record 3: the image cannot be decoded \(.*{reason}"
    with pytest.raises(DataError, match=message):
        images.decode(data, where="set[train], record 3")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_any_damage_is_a_data_error_or_an_image(file_format):
    data = encode(Image.fromarray(PIXELS), file_format)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=3):
            damaged[position] = rng.integers(256)
        try:
            pixels = images.decode(bytes(damaged), where="x")
        except DataError:
            continue
        assert pixels.shape[-1] == 3


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
    np.testing.assert_array_equal(images.resize_and_crop(pixels, size), expected)


def test_the_longer_side_is_exact():
    """224 / 49 * 98 is below 448 in floating point."""
    pixels = np.zeros((49, 98, 3), np.uint8)
    pixels[:, 49:] = 255
    middle = images.resize_and_crop(pixels, 224)[0, :, 0]
    np.testing.assert_array_equal(middle[::-1], 255 - middle)


def test_an_image_of_the_size_is_left_alone():
    assert images.resize_and_crop(PIXELS[:, :30], 30) is not None
    np.testing.assert_array_equal(images.resize_and_crop(PIXELS[:, :30], 30), PIXELS[:, :30])


def crop(seed, size=16, scale=(0.2, 1.0), pixels=PIXELS):
    return images.random_resized_crop(pixels, size, np.random.default_rng(seed), scale=scale)


def test_random_crops_follow_the_generator():
    np.testing.assert_array_equal(crop(1), crop(1))
    assert len({crop(seed).tobytes() for seed in range(20)}) == 20
    assert crop(0, size=7).shape == (7, 7, 3)


def test_random_crops_have_the_stated_area_and_ratio():
    """Of a picture of its own coordinates, the crop's corners tell the window."""
    height, width = 120, 160
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    for seed in range(50):
        window = crop(seed, size=60, scale=(0.3, 0.6), pixels=pixels).astype(float)
        crop_height = (window[-1, :, 0] - window[0, :, 0]).mean() * 60 / 59
        crop_width = (window[:, -1, 1] - window[:, 0, 1]).mean() * 60 / 59
        assert 0.27 < crop_height * crop_width / (height * width) < 0.63
        assert 0.70 < crop_width / crop_height < 1.42


def test_the_whole_square_is_kept_at_scale_and_ratio_one():
    square = PIXELS[:, :30]
    rng = np.random.default_rng(0)
    got = images.random_resized_crop(square, 30, rng, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_array_equal(got, square)


def test_a_shape_that_no_window_fits_gets_the_evaluation_view():
    strip = np.resize(PIXELS, (4, 64, 3))
    got = crop(0, size=8, scale=(1.0, 1.0), pixels=strip)
    np.testing.assert_array_equal(got, images.resize_and_crop(strip, 8))
