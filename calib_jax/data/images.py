"""From encoded bytes to uint8 pixels of the model's size."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from calib_jax.core.errors import DataError

Pixels = UInt8[np.ndarray, "h w 3"]


def decode(data: bytes, *, where: str) -> Pixels:
    """RGB pixels of an encoded image.

    Args:
        data: A JPEG or PNG file's bytes; grey, palette and CMYK become RGB, alpha is dropped.
        where: The record, for the error's message.

    Raises:
        DataError: The bytes are no image, or are cut short.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Pillow warns where a palette has transparent entries, unless it goes through RGBA.
            opened = image.convert("RGBA") if image.mode == "P" else image
            return np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{where}: the image cannot be decoded ({len(data)} bytes: {error}). "
            "Prepare the data set again."
        ) from None


def resize_and_crop(pixels: Pixels, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """CLIP's evaluation view: the shorter side resized to `size` (bicubic), the centre cut out."""
    height, width = pixels.shape[:2]
    if height == width == size:
        return pixels
    shorter = min(height, width)
    image = Image.fromarray(pixels).resize(
        (size * width // shorter, size * height // shorter), Image.Resampling.BICUBIC
    )
    left = round((image.width - size) / 2)
    top = round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def random_resized_crop(
    pixels: Pixels,
    size: int,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A random window of the given share of the area and aspect ratio, resized to `size` (bicubic).

    Torchvision's RandomResizedCrop, which CLIP's and FLYP's training uses with scale (0.9, 1).
    """
    height, width = pixels.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        crop_width = round(np.sqrt(area * aspect))
        crop_height = round(np.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            window = Image.fromarray(pixels[top : top + crop_height, left : left + crop_width])
            return np.asarray(window.resize((size, size), Image.Resampling.BICUBIC))
    return resize_and_crop(pixels, size)
