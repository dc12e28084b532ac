"""Picture transformations that change the style of an image and keep its class.

Every style maps `(image, rng)` to a new image of the same size and draws all its
randomness from `rng`: the same generator state gives the same pixels. Lengths
scale with the shorter side of the image and are quoted for 32 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter
from scipy import ndimage

Style = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_MIN_CONTRAST = 48.0  # gradients below this are paper grain, not outlines


def rotated(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image turned by 15 to 40 degrees either way; its border pixels fill the corners."""
    degrees = rng.choice((-1.0, 1.0)) * rng.uniform(15.0, 40.0)
    height, width = image.shape[:2]
    pad = int(np.ceil(0.25 * max(height, width)))  # a turn by 40 degrees reaches 0.21 outside
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    turned = Image.fromarray(padded).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned)[pad : pad + height, pad : pad + width]


def tinted(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The negative of the image, from a light colour (was black) to a dark one (was white)."""
    paper = rng.uniform(130.0, 255.0, 3)
    ink = rng.uniform(0.0, 80.0, 3)
    return _to_uint8(paper + (ink - paper) * (image / 255.0))


def sketch(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The outlines of the image, dark on light paper: its normalised luminance gradient."""
    sigma = rng.uniform(0.4, 0.7) * _scale(image)
    paper = rng.uniform(220.0, 255.0) - np.array([0.0, 2.0, 8.0])
    ink = rng.uniform(10.0, 70.0)
    smooth = ndimage.gaussian_filter(_luminance(image), sigma)
    gradient = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)) / 4.0
    strongest = max(float(np.percentile(gradient, 95)), _MIN_CONTRAST)
    lines = np.clip(1.6 * gradient / strongest - 0.4, 0.0, 1.0)[..., None]
    return _to_uint8(paper + (ink - paper) * lines)


def blurred(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image under a Gaussian blur with a standard deviation of 1.5 to 2.5 pixels."""
    sigma = rng.uniform(1.5, 2.5) * _scale(image)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image plus independent Gaussian noise with a standard deviation of 30 to 60 levels."""
    sigma = rng.uniform(30.0, 60.0)
    return _to_uint8(image + sigma * rng.standard_normal(image.shape, np.float32))


def occluded(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a rectangle of one colour over 9 to 25 % of its area."""
    height, width = image.shape[:2]
    rows = max(1, int(height * rng.uniform(0.3, 0.5)))
    columns = max(1, int(width * rng.uniform(0.3, 0.5)))
    top = rng.integers(0, height - rows, endpoint=True)
    left = rng.integers(0, width - columns, endpoint=True)
    covered = image.copy()
    covered[top : top + rows, left : left + columns] = rng.integers(0, 256, 3, np.uint8)
    return covered


def grayscale(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The luminance (ITU-R BT.601) of the image in all three channels; `rng` is not used."""
    del rng
    return np.repeat(_to_uint8(_luminance(image))[..., None], 3, axis=-1)


def posterized(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with each channel rounded to 2 to 4 equally spaced levels."""
    steps = int(rng.integers(1, 4))
    return _to_uint8(np.rint(image * (steps / 255.0)) * (255.0 / steps))


def pixelated(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image averaged over blocks whose side is 2 to 4 pixels."""
    block = max(2.0, rng.uniform(2.0, 4.0) * _scale(image))
    height, width = image.shape[:2]
    coarse = (max(1, round(width / block)), max(1, round(height / block)))
    small = Image.fromarray(image).resize(coarse, Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def low_contrast(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image squeezed to 15 to 35 % of its contrast around a random gray of 70 to 185."""
    gain = rng.uniform(0.15, 0.35)
    gray = rng.uniform(70.0, 185.0)
    return _to_uint8(gray + gain * (image - image.mean()))


def thickened(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with bright strokes wider by 2 pixels (a local maximum), their edges harder."""
    side = _odd(3 * _scale(image))
    thick = np.asarray(Image.fromarray(image).filter(ImageFilter.MaxFilter(side)))
    return _to_uint8(thick * rng.uniform(1.2, 2.0))


def thinned(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with bright strokes narrower by 2 pixels (a local minimum), as bright as before."""
    side = _odd(3 * _scale(image))
    thin = np.asarray(Image.fromarray(image).filter(ImageFilter.MinFilter(side)), np.float32)
    fade = rng.uniform(0.8, 1.0)
    return _to_uint8(thin * (fade * float(image.max()) / max(float(thin.max()), 1.0)))


def on_background(
    image: UInt8[np.ndarray, "h w 3"],
    background: UInt8[np.ndarray, "h w 3"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h w 3"]:
    """The bright strokes of the image, painted on the background in a contrasting colour.

    The luminance of `image` is the opacity of the paint, which is light where the
    background under the strokes is dark and dark where it is light.
    """
    opacity = np.minimum(_luminance(image) * (1.25 / 255.0), 1.0)
    weights = opacity + 1e-6  # an empty image has no strokes: look at the whole background
    is_light = np.average(_luminance(background), weights=weights) > 127.5
    ink = rng.uniform(0.0, 50.0, 3) if is_light else rng.uniform(205.0, 255.0, 3)
    return _to_uint8(background + (ink - background) * opacity[..., None])


def _luminance(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    return image.astype(np.float32) @ _LUMINANCE


def _scale(image: UInt8[np.ndarray, "h w 3"]) -> float:
    return min(image.shape[:2]) / 32.0


def _odd(size: float) -> int:
    return max(3, 2 * round((size - 1.0) / 2.0) + 1)


def _to_uint8(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
