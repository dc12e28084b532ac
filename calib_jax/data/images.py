"""From encoded bytes to uint8 pixels: decoding, CLIP's evaluation view and random crops."""

from __future__ import annotations

import contextlib
import dataclasses
import fractions
import io
import math
import re
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Float, Int, Int32, UInt8
from PIL import Image, UnidentifiedImageError

from calib_jax.core.errors import DataError
from calib_jax.data.resizing import (
    Axis,
    Pixels,
    may_start_with_rows,
    resize,
    resize_and_crop,
    view_axes,
)

Resize = Literal["host", "device"]
"""Where images get the model's size; either way as Pillow makes them, bit by bit.

- host: on the threads that decode, no more than the crop keeps.
- device: the host only decodes and cuts, `core.resampling.resample` does the rest.
"""

RESIZES = get_args(Resize)

Box = tuple[slice, slice]
"""Rows and columns of a window."""

NUM_TRIES = 10
"""How often a random window is drawn until one fits, as torchvision does."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is opened, by Pillow's names; MPO counts as JPEG, PGM, PBM and PFM as PPM.

Pillow itself also opens formats for which it starts an external program (EPS), whatever the file is
called.
"""

_PNG_START, _PLAIN_CHUNKS = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"IDAT", b"IEND")
_START, _END_OF_IMAGE, _START_OF_SCAN = b"\xff\xd8", 0xD9, 0xDA
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # neither a stuffed 0xff nor a restart
# On the device: a canvas of 512 for 224 pixels holds the common photograph of 500 x 375.
_MAX_SHRINKING = fractions.Fraction(16, 7)
_NUM_TAPS = 2 * math.ceil(2 * _MAX_SHRINKING) + 1


def decode(data: bytes, *, where: str, fix: str = "Replace the file.") -> Pixels:
    """RGB pixels of an encoded image, as Pillow decodes it; read-only.

    Whole grey and colour JPEGs and plain PNGs go through OpenCV, which is faster and gives the same
    pixels; everything else goes through Pillow. The orientation in a photograph's EXIF data is
    ignored, as in CLIP's reference.

    Args:
        data: The bytes of a file in one of FORMATS; grey, palette and CMYK become RGB, alpha is
            dropped, of an animation the first picture counts. Grey of 16 bits is divided by 257,
            grey floats of 0 to 1 are multiplied by 255.
        where: The record or file, for the error's message.
        fix: What to do about it, for the same.

    Raises:
        DataError: The bytes are no image of these formats, or are cut short, or the image has more
            pixels than Pillow allows, or grey values beyond their range.
    """
    is_fast = _num_components(data) in (1, 3) or _is_plain_png(data)
    pixels = _decode_fast(data) if is_fast else None
    if pixels is None:
        pixels = _decode_any(data, where, fix)
    pixels.flags.writeable = False
    return pixels


def identify(data: bytes, *, where: str, fix: str = "Replace the file.") -> None:
    """Passes what begins as an image of FORMATS does; the pixels are not read.

    Args:
        data: As in `decode`.
        where: As in `decode`.
        fix: As in `decode`.

    Raises:
        DataError: It does not, or has more pixels than Pillow allows.
    """
    with _refused(data, where, fix), _opened(data):
        pass


def _num_components(data: bytes) -> int:
    """The colour components of a JPEG that is whole from marker to marker; 0 for all else.

    OpenCV fills what a cut or overwritten file lacks with grey and says nothing, and takes images
    beyond Pillow's limit.
    """
    if data[:2] != _START:
        return 0
    position, components = 2, 0
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _HUFFMAN_FRAMES:
            precision, components = data[position + 4], data[position + 9]
            if precision != 8 or _num_pixels(data, position) > _max_pixels():
                return 0
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            found = _MARKER_IN_SCAN.search(data, position)
            if found is None:
                return 0
            position = found.start()
            if data[position + 1] == _END_OF_IMAGE:
                return components if position + 2 == len(data) else 0
    return 0


def _is_plain_png(data: bytes) -> bool:
    """Whether a PNG is whole by its checksums, grey or RGB of 8 bits, without further chunks."""
    if data[:8] != _PNG_START:
        return False
    position, header = 8, b""
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        checksum = int.from_bytes(data[end : end + 4])
        if kind not in _PLAIN_CHUNKS or zlib.crc32(data[position + 4 : end]) != checksum:
            return False
        header = header or data[position + 8 : end]
        if kind == b"IEND":
            is_8_bits = header[8:] in (b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00")
            width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
            return is_8_bits and width * height <= _max_pixels()
        position = end + 4
    return False


def _decode_fast(data: bytes) -> Pixels | None:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels)


def _num_pixels(data: bytes, frame: int) -> int:
    """What the header of a JPEG's frame says."""
    return int.from_bytes(data[frame + 5 : frame + 7]) * int.from_bytes(data[frame + 7 : frame + 9])


def _max_pixels() -> float:
    """Where Pillow begins to warn; at twice that it refuses."""
    return float(math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS)


def _opened(data: bytes) -> Image.Image:
    Image.init()  # once it has been done it costs nothing; until then formats are missing
    known = [name for name in FORMATS if name in Image.OPEN]  # Pillow 11.0 has no AVIF
    return Image.open(io.BytesIO(data), formats=known)


def _decode_any(data: bytes, where: str, fix: str) -> Pixels:
    with _refused(data, where, fix), _opened(data) as image:
        return _rgb(image)


@contextlib.contextmanager
def _refused(data: bytes, where: str, fix: str) -> Iterator[None]:
    """Whatever Pillow makes of damaged files as one DataError."""
    try:
        yield
    except UnidentifiedImageError:
        raise DataError(
            f"{where} is not an image of a known format (got {len(data)} bytes, expected "
            f"{', '.join(FORMATS)}). {fix}"
        ) from None
    # Of nearly any type: SyntaxError, struct.error, EOFError, SystemError, ..., and a warning
    # where warnings are errors.
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"{where}: the image cannot be decoded ({len(data)} bytes: {reason[:200]}). {fix}"
        ) from None


def _rgb(image: Image.Image) -> Pixels:
    """The pixels as Pillow converts them, but for grey of more than 8 bits, which it clips."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(_grey(image)[..., np.newaxis], 3, axis=-1)
    # Pillow warns where a palette has transparent entries, unless it goes through RGBA.
    opened = image.convert("RGBA") if image.mode == "P" else image
    return np.array(opened.convert("RGB"))


def _grey(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """Floats of 0 to 1 or whole numbers of 0 to 65535 as 0 to 255.

    Raises:
        ValueError: There are others; which of them are black and white, nobody said.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    values, largest = np.asarray(image), 1 if image.mode == "F" else 65535
    if tags.get(_BITS_PER_SAMPLE) == (12,):
        largest = 4095
    if not (values.min() >= 0 and values.max() <= largest):
        raise ValueError(
            f"got grey values from {values.min():g} to {values.max():g}, expected 0 to {largest}"
        )
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = largest - values
    return np.rint(values * (255.0 / largest)).astype(np.uint8)


def random_boxes(
    sizes: Int[np.ndarray, "b 2"],
    draws: Float[np.ndarray, "b tries 4"],
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> list[Box | None]:
    """Rows and columns of a random window of each image, of the given share of area and ratio.

    Those of torchvision's RandomResizedCrop, which CLIP's and FLYP's training uses with scale
    (0.9, 1) and ten tries. None where no try fits into the image.

    Args:
        sizes: Height and width of each image.
        draws: Uniform in [0, 1): for each try its area, its ratio, its left and its top.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest ratio of width and height, drawn on a log scale.
    """
    height, width = sizes[:, :1], sizes[:, 1:]
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[..., 0])
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * draws[..., 1])
    wide, tall = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    left, top = (width - wide + 1) * draws[..., 2], (height - tall + 1) * draws[..., 3]
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    tries = np.stack([top, tall, left, wide], axis=-1)
    found = tries[np.arange(len(sizes)), fits.argmax(axis=1)].astype(int).tolist()
    return [
        (slice(y, y + rows), slice(x, x + columns)) if fitting else None
        for (y, rows, x, columns), fitting in zip(found, fits.any(axis=1).tolist(), strict=True)
    ]


class Frame(NamedTuple):
    """An image as the device gets it.

    Attributes:
        pixels: Of the model's size; with taps, a square canvas with stored pixels in a corner.
        taps: What `core.resampling.resample` makes the model's pixels with.
    """

    pixels: Pixels
    taps: Int32[np.ndarray, "2 size k"] | None = None

    def mirrored(self) -> Frame:
        """The frame of the image with left and right exchanged."""
        pixels = self.pixels[:, ::-1]
        if self.taps is None:
            return Frame(pixels)
        taps = self.taps.copy()
        first, coefficients = self.taps[1, ::-1, 0], self.taps[1, ::-1, :0:-1]
        taps[1, :, 0] = pixels.shape[1] - coefficients.shape[1] - first
        taps[1, :, 1:] = coefficients
        return Frame(pixels, taps)


def _on_canvas(pixels: Pixels, rows: Axis, columns: Axis, side: int) -> Frame:
    cut = pixels[rows.needed, columns.needed]
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: cut.shape[0], : cut.shape[1]] = cut
    return Frame(canvas, np.stack([rows.taps(_NUM_TAPS), columns.taps(_NUM_TAPS)]))


@dataclasses.dataclass(frozen=True)
class Framing:
    """Makes frames of stored pixels.

    Attributes:
        size: Side of the model's images.
        resize: Where they get it.
    """

    size: int
    resize: Resize = "host"

    @property
    def side(self) -> int:
        """Side of a frame: of the canvas, where the device resizes."""
        return int(self.size * _MAX_SHRINKING) if self.resize == "device" else self.size

    def view(self, pixels: Pixels) -> UInt8[np.ndarray, "size size 3"]:
        """CLIP's evaluation view, made on the host."""
        return resize_and_crop(pixels, self.size)

    def whole(self, pixels: Pixels) -> Frame:
        """The frame of CLIP's evaluation view."""
        if self.resize != "device":
            return Frame(self.view(pixels))
        rows, columns = view_axes(pixels, self.size)
        is_large = max(rows.num_needed, columns.num_needed) > self.side
        if is_large or may_start_with_rows(rows, columns):
            return self._stretched(self.view(pixels))
        return _on_canvas(pixels, rows, columns, self.side)

    def window(self, pixels: Pixels, box: Box | None) -> Frame:
        """The frame of a window (see `random_boxes`), or of the whole for None.

        The columns are resized first, as Pillow 12 does; Pillow 13 goes by the shape.
        """
        return self.whole(pixels) if box is None else self._stretched(pixels[box])

    def _stretched(self, pixels: Pixels) -> Frame:
        """The frame of all pixels, whatever their shape."""
        height, width = pixels.shape[:2]
        rows, columns = Axis(height, self.size, self.size), Axis(width, self.size, self.size)
        if self.resize == "host":
            return Frame(pixels if height == width == self.size else resize(pixels, rows, columns))
        if max(height, width) <= self.side:
            return _on_canvas(pixels, rows, columns, self.side)
        return self._stretched(resize(pixels, rows, columns))
