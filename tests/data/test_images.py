"""Decoding of good and broken files, and the views against Pillow by hand."""

import io
import struct
import zlib

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from calib_jax.core.errors import DataError
from calib_jax.core.resampling import resample
from calib_jax.data import images
from calib_jax.data.datasets.records import RecordSplit, Split
from calib_jax.data.images import Framing
from calib_jax.data.resizing import resize_and_crop

RESIZES = ("host", "device")
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "options", "is_plain"),
    [
        ("RGB", {}, True),
        ("RGB", {"compress_level": 0}, True),
        ("L", {}, True),
        ("L", {"transparency": 3}, False),
        ("RGB", {"dpi": (72, 72)}, False),
        ("P", {}, False),
        ("RGBA", {}, False),
        ("1", {}, False),
    ],
)
def test_a_png_is_decoded_as_pillow_does(mode, options, is_plain):
    """Plain ones by OpenCV."""
    image = Image.fromarray(PIXELS).convert(mode)
    data = encode(image, **options)
    assert images._is_plain_png(data) == is_plain
    np.testing.assert_array_equal(images.decode(data, where="x"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("cut", [1, 4, 13, 40])
def test_a_png_that_is_not_whole_is_not_plain(cut):
    assert not images._is_plain_png(encode(Image.fromarray(PIXELS))[:-cut])


def test_a_png_with_too_few_pixels_is_what_pillow_makes_of_it():
    """Its checksums are right; OpenCV gives nothing."""
    header, pixels = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), zlib.compress(bytes(25) * 4)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    assert images._is_plain_png(data)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(images.decode(data, where="x"), np.asarray(image))


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
        (b"", r"got 0 bytes, expected JPEG"),
        (b"<html>404 Not Found</html>", r"got 26 bytes, expected JPEG"),
        (encode(Image.fromarray(PIXELS))[:200], r"200 bytes: .*(truncated|Truncated)"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:-40], r"truncated"),
        (encode(Image.fromarray(PIXELS))[:8], r"got 8 bytes"),
        (bomb(), r"exceeds limit"),
    ],
    ids=["empty", "html", "cut png", "cut jpeg", "signature", "bomb"],
)
def test_what_is_no_whole_image_names_the_record(data, reason):
    message = (
        rf"^set\[train\], record 3(: the image cannot be decoded| is not .* format) \(.*{reason}"
    )
    with pytest.raises(DataError, match=message):
        images.decode(data, where="set[train], record 3")


def by_pillow(data):
    """The pixels, or None where Pillow finds no whole image."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            rgba = opened.convert("RGBA") if opened.mode == "P" else opened
            return np.asarray(rgba.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        return None


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_any_damage_is_a_data_error_or_the_image_that_pillow_makes_of_it(file_format):
    data = encode(Image.fromarray(PIXELS), file_format)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=3):
            damaged[position] = rng.integers(256)
        expected = by_pillow(bytes(damaged))
        if expected is None:
            with pytest.raises(DataError, match="cannot be decoded|is not an image"):
                images.decode(bytes(damaged), where="x")
        else:
            np.testing.assert_array_equal(images.decode(bytes(damaged), where="x"), expected)


def photograph(height=61, width=83):
    """Smooth enough for a JPEG's colours to be worth something."""
    noise = np.random.default_rng(height).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def oriented(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return encode(photograph(), "JPEG", exif=exif)


def without_adobe_marker(data):
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]


FAST = {
    **{f"subsampling {n}": encode(photograph(), "JPEG", subsampling=n) for n in range(3)},
    "narrow": encode(photograph(8, 301), "JPEG"),
    "4:4:0": cv2.imencode(
        ".jpg",
        np.asarray(photograph()),
        [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440],
    )[1].tobytes(),
    "poor": encode(photograph(), "JPEG", quality=5),
    "progressive": encode(photograph(), "JPEG", progressive=True),
    "restarts": encode(photograph(), "JPEG", restart_marker_blocks=2),
    "profile": encode(photograph(), "JPEG", icc_profile=b"\xff\xd9" * 400),
    "grey": encode(photograph().convert("L"), "JPEG"),
    "grey, progressive": encode(photograph().convert("L"), "JPEG", progressive=True),
    "RGB inside": encode(photograph(), "JPEG", keep_rgb=True),
    **{f"orientation {n}": oriented(n) for n in range(1, 9)},
}
SLOW = {
    "CMYK of Adobe": encode(photograph().convert("CMYK"), "JPEG"),
    "CMYK": without_adobe_marker(encode(photograph().convert("CMYK"), "JPEG")),
    "bytes after the end": encode(photograph(), "JPEG") + b"\0\0",
    "transparent colour": encode(photograph().convert("P"), "PNG", transparency=3),
    "animation": encode(
        photograph().convert("P"), "GIF", save_all=True, append_images=[Image.new("P", (83, 61))]
    ),
    "WebP": encode(photograph(), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_the_decoder_does_not_show(name, monkeypatch):
    data, used, original = {**FAST, **SLOW}[name], [], cv2.imdecode

    def watched(*args):
        used.append(name)
        return original(*args)

    monkeypatch.setattr(cv2, "imdecode", watched)
    pixels = images.decode(data, where="x")
    np.testing.assert_array_equal(pixels, by_pillow(data))
    assert bool(used) == (name in FAST)
    assert not pixels.flags.writeable


@pytest.mark.parametrize("failure", ["nothing", "error"])
def test_a_decoder_that_returns_nothing(failure, monkeypatch):
    def fails(data, flags):
        if failure == "error":
            raise cv2.error("out of memory")

    monkeypatch.setattr(cv2, "imdecode", fails)
    data = encode(photograph(), "JPEG")
    np.testing.assert_array_equal(images.decode(data, where="x"), by_pillow(data))

    def opens_nothing(file, formats):
        raise OSError("broken data stream")

    monkeypatch.setattr(Image, "open", opens_nothing)
    with pytest.raises(DataError, match=r"^set\[train\], record 3: .*broken data stream"):
        images.decode(data, where="set[train], record 3")


DRAWN_SHAPES = [
    (256, 256),
    (256, 384),
    (359, 256),
    (256, 317),
    (382, 256),
    (240, 350),
    (548, 256),
    (500, 241),
]
"""Shapes of photographs; Pillow 13 resizes the last two row by row first."""


@pytest.fixture(
    scope="module", params=["drawn", pytest.param("prepared", marks=pytest.mark.image_sets)]
)
def photographs(request, draw_set, image_sets):
    """Every tenth of the thousand, and two that Pillow 13 resizes row by row first; or drawn."""
    data_dir, rows = image_sets, [*range(0, 1000, 10), 43, 997]
    if request.param == "drawn":
        files = [(encode(photograph(*shape), "JPEG"), 0) for shape in DRAWN_SHAPES]
        data_dir = draw_set("imagenet_sample", ("drawn",), {"validation": files})
        rows = range(len(DRAWN_SHAPES))
    records = RecordSplit(Split(name="imagenet_sample", split="validation"), [data_dir])
    return [records.read(index) for index in rows]


def evaluation_view(pixels, size):
    """Every pixel computed, then the centre cut out."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    image = Image.fromarray(pixels).resize(
        (size * width // shorter, size * height // shorter), Image.Resampling.BICUBIC
    )
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def on_device(frames):
    taps = np.stack([frame.taps for frame in frames])
    return np.asarray(jax.jit(resample)(np.stack([frame.pixels for frame in frames]), taps))


def test_photographs_are_decoded_and_resized_as_pillow_does(photographs):
    for record in photographs:
        pixels = record.pixels()
        np.testing.assert_array_equal(pixels, by_pillow(record.encoded))
        expected = evaluation_view(pixels, 224)
        np.testing.assert_array_equal(resize_and_crop(pixels, 224), expected)


def test_the_device_makes_pillows_pixels_of_photographs(photographs):
    framing = Framing(224, "device")
    pixels = [record.pixels() for record in photographs[-6:]]
    frames = [framing.whole(each) for each in pixels]
    assert {frame.pixels.shape for frame in frames} == {(512, 512, 3)}
    expected = [evaluation_view(each, 224) for each in pixels]
    np.testing.assert_array_equal(on_device(frames), expected)


SHAPES = [
    (16, 16),
    (20, 31),
    (31, 20),
    (9, 8),
    (8, 9),
    (16, 90),
    (90, 16),
    (37, 36),
    (36, 37),
    (40, 200),
    (200, 40),
    (33, 64),
    (1, 5),
]


def test_every_shape_in_every_way():
    """Edges, enlargement, and what is too large for a canvas of 36 x 36."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
    expected = [evaluation_view(each, 16) for each in pixels]
    host, device = ([Framing(16, way).whole(each) for each in pixels] for way in RESIZES)
    np.testing.assert_array_equal([frame.pixels for frame in host], expected)
    assert all(frame.taps is None for frame in host)
    assert {frame.pixels.shape for frame in device} == {(36, 36, 3)}
    np.testing.assert_array_equal(on_device(device), expected)
    mirrored = np.array(expected)[:, :, ::-1]
    np.testing.assert_array_equal(on_device([frame.mirrored() for frame in device]), mirrored)
    np.testing.assert_array_equal([frame.mirrored().pixels for frame in host], mirrored)
    assert host[0].mirrored().taps is None


def box_of(pixels, seed, **options):
    draws = np.random.default_rng(seed).random((1, images.NUM_TRIES, 4))
    (box,) = images.random_boxes(np.array([pixels.shape[:2]]), draws, **options)
    return box


def test_random_windows_are_the_first_tries_that_fit():
    """As torchvision's loop finds them; some of the third image's, and all of the last's, fail."""
    sizes = np.array([[30, 40], [7, 7], [40, 20], [4, 64]])
    draws = np.random.default_rng(0).random((4, 10, 4))
    expected = []
    for (height, width), tries in zip(sizes.tolist(), draws, strict=True):
        expected.append(None)
        for share, position, across, down in tries:
            area = height * width * (0.5 + 0.5 * share)
            aspect = (3 / 4) ** (1 - position) * (4 / 3) ** position
            columns, rows = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if columns <= width and rows <= height:
                x, y = int(across * (width - columns + 1)), int(down * (height - rows + 1))
                expected[-1] = slice(y, y + rows), slice(x, x + columns)
                break
    assert images.random_boxes(sizes, draws, scale=(0.5, 1.0)) == expected
    assert expected[-1] is None
    assert None not in expected[:2]


def test_random_windows_are_the_same_in_every_way():
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
    frames = {
        way: [
            Framing(16, way).window(each, box_of(each, seed, scale=(0.3, 1.0)))
            for seed, each in enumerate(pixels)
        ]
        for way in RESIZES
    }
    np.testing.assert_array_equal(
        on_device(frames["device"]), [frame.pixels for frame in frames["host"]]
    )
    for seed, each in enumerate(pixels):
        box = box_of(each, seed, scale=(0.3, 1.0))
        if box is not None:
            window = Image.fromarray(each[box])
            # The columns first: Pillow 13 at times begins with the rows.
            wide = window.resize((16, window.height), Image.BICUBIC)
            columns_first = np.asarray(wide.resize((16, 16), Image.BICUBIC))
            np.testing.assert_array_equal(frames["host"][seed].pixels, columns_first)


def crop(seed, size=16, scale=(0.2, 1.0), pixels=PIXELS):
    return Framing(size).window(pixels, box_of(pixels, seed, scale=scale)).pixels


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
    box = box_of(np.zeros((30, 30, 3), np.uint8), 0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert box == (slice(0, 30), slice(0, 30))


def test_a_shape_that_no_window_fits_gets_the_evaluation_view():
    strip = np.resize(PIXELS, (4, 64, 3))
    got = crop(0, size=8, scale=(1.0, 1.0), pixels=strip)
    np.testing.assert_array_equal(got, resize_and_crop(strip, 8))


def test_an_image_is_known_by_how_it_begins():
    pixels = np.zeros((4, 4, 3), np.uint8)
    for suffix in (".png", ".jpg", ".bmp"):
        data = cv2.imencode(suffix, pixels)[1].tobytes()
        images.identify(data, where="x")
        with pytest.raises(DataError, match="^x is not an image of a known format"):
            images.identify(data[1:], where="x")
