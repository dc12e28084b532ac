"""Every format and kind of pixel, damaged files, and files that are not what they are called."""

import io
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from calib_jax.core.errors import DataError
from calib_jax.data import images

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
PICTURE = Image.fromarray(RGB).resize((20, 24), Image.Resampling.BICUBIC)
RAMP = np.linspace(2000, 60000, 480).astype(np.uint16).reshape(24, 20)
UNIT = np.linspace(0, 1, 480, dtype=np.float32).reshape(24, 20)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def tagged(data, **values):
    """A TIFF with other values of its tags of one number."""
    data, numbers = bytearray(data), {"bits": 258, "photometric": 262}
    directory = int.from_bytes(data[4:8], "little")
    for entry in range(directory + 2, directory + 2 + 12 * data[directory], 12):
        for name, value in values.items():
            if int.from_bytes(data[entry : entry + 2], "little") == numbers[name]:
                data[entry + 8 : entry + 12] = value.to_bytes(4, "little")
    return bytes(data)


FILES = {
    "JPEG": encode(PICTURE, "JPEG"),
    "JPEG, progressive": encode(PICTURE, "JPEG", progressive=True),
    "JPEG, CMYK": encode(PICTURE.convert("CMYK"), "JPEG"),
    "MPO": encode(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(90)]),
    "PNG": encode(PICTURE, "PNG"),
    "PNG, palette": encode(PICTURE.convert("P"), "PNG", transparency=bytes(range(256))),
    "PNG, grey of 16 bits": encode(Image.fromarray(RAMP), "PNG"),
    "BMP": encode(PICTURE, "BMP"),
    "GIF": encode(PICTURE.convert("P"), "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "WEBP": encode(PICTURE, "WEBP"),
    "TIFF": encode(PICTURE, "TIFF"),
    "TIFF, LZW": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "TIFF, grey of 16 bits": encode(Image.fromarray(RAMP), "TIFF"),
    "TIFF, floats": encode(Image.fromarray(UNIT), "TIFF"),
    "PPM": encode(PICTURE, "PPM"),
    "PGM": encode(PICTURE.convert("L"), "PPM"),
    "PBM": encode(PICTURE.convert("1"), "PPM"),
    "PFM": encode(Image.fromarray(UNIT), "PPM"),
    "JPEG2000": encode(PICTURE, "JPEG2000"),
}
Image.init()
if "AVIF" in Image.SAVE:  # not in every Pillow
    FILES["AVIF"] = encode(PICTURE, "AVIF")


def test_every_format_is_named_here():
    names = {name.partition(",")[0] for name in FILES}
    assert {*images.FORMATS} - names <= {"AVIF"} and len(names) >= 10


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_decoded(name):
    pixels = images.decode(FILES[name], where="x")
    assert pixels.shape == (24, 20, 3)
    images.identify(FILES[name], where="x")
    if not re.search("floats|16 bits|PFM", name):
        with Image.open(io.BytesIO(FILES[name])) as opened:
            expected = opened.convert("RGBA").convert("RGB")
        np.testing.assert_array_equal(pixels, expected)


def flip_bits(name, count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        data = bytearray(FILES[name])
        bit = int(rng.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        try:
            pixels = images.decode(bytes(data), where="x.png")
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        except DataError as error:
            assert re.fullmatch(r"x\.png(:| is not) .*\. Replace the file\.", str(error))


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_an_image_or_one_line(name):
    flip_bits(name, 100)


@pytest.mark.many
@pytest.mark.parametrize("name", FILES)
def test_many_flipped_bits_are_an_image_or_one_line(name):
    flip_bits(name, 400)


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_an_image_or_one_line(name):
    for length in range(0, len(FILES[name]), 37):
        try:
            images.decode(FILES[name][:length], where="x")
        except DataError as error:
            assert "\n" not in str(error)


SIXTEEN = {
    "PNG": encode(Image.fromarray(RAMP), "PNG"),
    "TIFF": encode(Image.fromarray(RAMP), "TIFF"),
    "TIFF, Motorola's": encode(Image.frombytes("I;16B", (20, 24), RAMP.astype(">u2")), "TIFF"),
    "TIFF, 32 bits": encode(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
    "PGM": encode(Image.fromarray(RAMP), "PPM"),
    "JPEG2000": encode(Image.fromarray(RAMP), "JPEG2000"),
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_grey_of_sixteen_bits_is_divided_by_257(name):
    expected = np.rint(RAMP / 257).astype(np.uint8)
    assert (expected.min(), expected.max()) == (8, 233)
    pixels = images.decode(SIXTEEN[name], where="x")
    np.testing.assert_array_equal(pixels, np.repeat(expected[..., np.newaxis], 3, axis=-1))


@pytest.mark.parametrize("file_format", ["TIFF", "PPM"])
def test_grey_floats_are_multiplied_by_255(file_format):
    pixels = images.decode(encode(Image.fromarray(UNIT), file_format), where="x")
    np.testing.assert_array_equal(pixels[..., 1], np.rint(UNIT * 255))


def test_what_a_tiff_says_of_its_grey():
    """Where zero is white, and where twelve bits are stored in pairs."""
    white_is_zero = tagged(SIXTEEN["TIFF"], photometric=0)
    np.testing.assert_array_equal(
        images.decode(white_is_zero, where="x")[..., 0], np.rint((65535 - RAMP.astype(int)) / 257)
    )
    twelve = RAMP >> 4
    high, low = twelve[:, ::2], twelve[:, 1::2]
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], -1).astype(np.uint8)
    data = tagged(SIXTEEN["TIFF"], bits=12)
    stored = RAMP.astype("<u2").tobytes()
    assert stored in data
    data = data.replace(stored, packed.tobytes().ljust(len(stored), b"\0"))
    np.testing.assert_array_equal(
        images.decode(data, where="x")[..., 0], np.rint(twelve / (4095 / 255))
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (UNIT * 255, "from 0 to 255, expected 0 to 1"),
        (UNIT - 0.5, "from -0.5 to 0.5, expected 0 to 1"),
        (np.full((24, 20), np.nan, np.float32), "from nan to nan, expected 0 to 1"),
        (RAMP.astype(np.int32) * 2, "from 4000 to 120000, expected 0 to 65535"),
        (-RAMP.astype(np.int32), "from -60000 to -2000, expected 0 to 65535"),
    ],
)
def test_grey_beyond_its_range_is_refused(values, reason):
    data = encode(Image.fromarray(values), "TIFF")
    with pytest.raises(DataError, match=rf"^x: the image .* got grey values {reason}\)\. Replace"):
        images.decode(data, where="x")


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow cannot convert from LAB")
def test_colours_of_lab():
    flat = Image.new("RGB", (4, 4), (200, 30, 60))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    data = encode(ImageCms.applyTransform(flat, transform), "TIFF")
    np.testing.assert_allclose(images.decode(data, where="x")[0, 0], (200, 30, 60), atol=2)


def test_without_pixels():
    with pytest.raises(DataError, match=r"^x is not an image of a known format"):
        images.decode(b"P6 0 5 255\n", where="x")


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
@pytest.mark.parametrize(("limit", "reason"), [(400, "480 pixels.* exceeds limit"), (200, "480 p")])
def test_more_pixels_than_pillow_allows(name, limit, reason, monkeypatch):
    """At the limit it warns, which is an error here; at twice the limit it refuses."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=rf"^x\.jpg: the image cannot be decoded .*{reason}"):
        images.decode(FILES[name], where="x.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert images.decode(FILES[name], where="x").shape == (24, 20, 3)


def other_formats():
    for name in sorted({"EPS", "ICO", "PCX", "TGA", "PDF", "DDS", "SGI", "XBM"} & {*Image.SAVE}):
        image = PICTURE.convert("1") if name == "XBM" else PICTURE
        yield pytest.param(encode(image, name), id=name)
    yield pytest.param(b"\xd7\xcd\xc6\x9a" + bytes(60), id="WMF")
    yield pytest.param(b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(60), id="EMF")
    yield pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG")
    yield pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", id="EPS, short")


@pytest.mark.parametrize("data", [*other_formats()])
def test_other_formats_are_refused(data):
    message = r"^x\.png is not an image of a known format \(got \d+ bytes, expected JPEG, .*AVIF\)"
    for function in (images.decode, images.identify):
        with pytest.raises(DataError, match=message):
            function(data, where="x.png")


def test_all_images_are_opened_at_one_place():
    package = pathlib.Path(images.__file__).parents[1]
    files = [file for file in package.rglob("*.py") if "Image.open(" in file.read_text("utf-8")]
    assert files == [pathlib.Path(images.__file__)]


SCRIPT = """
import sys
from calib_jax.core.errors import DataError
from calib_jax.data import images
with open(sys.argv[1], "rb") as file:
    data = file.read()
for function in (images.identify, images.decode):
    try:
        function(data, where="x.png")
    except DataError as error:
        print(error)
"""


def test_no_program_is_started(tmp_path):
    """By an EPS Pillow starts `gs`, whatever the file is called: here one that leaves a trace."""
    gs, trace = tmp_path / "bin" / "gs", tmp_path / "it_ran"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {trace}\n")
    gs.chmod(0o755)
    file = tmp_path / "x.png"
    file.write_bytes(encode(PICTURE, "EPS"))
    path = {"PATH": f"{gs.parent}:{os.environ['PATH']}"}
    script = [sys.executable, "-c", SCRIPT, str(file)]
    done = subprocess.run(script, env=os.environ | path, capture_output=True, text=True, check=True)
    assert done.stdout.count("x.png is not an image of a known format") == 2
    assert not trace.exists()
    subprocess.run(  # the trap works
        [sys.executable, "-c", f"from PIL import Image; Image.open({str(file)!r}).load()"],
        env=os.environ | path,
        capture_output=True,
    )
    assert trace.exists()
