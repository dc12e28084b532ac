"""The preprocessing that files beside weights describe: what is ours is taken, else refused.

Ours is CLIP's: the shorter side resized to the image size (bicubic), the centre cut out, and each
channel shifted and scaled. Whatever a file says of shift and scale is expressed by mean and
deviation; another geometry is an error.
"""

from __future__ import annotations

import math
from typing import Any

from calib_jax.models.config import ClipConfig
from calib_jax.models.weights.fields import Fields

_TYPES = [
    None,
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",  # before transformers 4.26
]
_DEFAULT_SIZE = 224  # of transformers' `CLIPImageProcessor`, whatever the model takes
_BICUBIC = 3  # Pillow's number
# What would change the geometry; what we compute is each field's first values. Without
# do_convert_rgb only RGB images have three channels, and they stay as they are.
_FIXED: dict[str, list[Any]] = {
    "image_processor_type": _TYPES,
    "feature_extractor_type": _TYPES,
    "do_convert_rgb": [None, True, False],
    "do_resize": [None, True],
    "resample": [None, _BICUBIC],
    "use_square_size": [None, False],
    "do_center_crop": [None, True],
    "do_pad": [None, False],
    "do_rescale": [None, True, False],
    "do_normalize": [None, True, False],
}
# Where these are null, `transformers` leaves out their step or fails.
_NEVER_NULL = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
_OPEN_CLIP_FIXED: dict[str, list[Any]] = {
    "mode": [None, "RGB"],
    "resize_mode": [None, "shortest"],
    "interpolation": [None, "bicubic"],
}
_OPEN_CLIP_READ = ("size", "mean", "std", "fill_color")  # the colour of a padding that ours lacks


def take_hugging_face(fields: Fields, config: ClipConfig) -> None:
    """Sets mean and deviation to what `transformers`' `CLIPImageProcessor` does with the pixels.

    Args:
        fields: The content of `preprocessor_config.json`, or the part of the image processor in
            `processor_config.json`.
        config: Of the model.

    Raises:
        WeightsError: A field that asks for another view than ours, by name.
    """
    for name in _NEVER_NULL:
        if name in fields.values and fields.values[name] is None:
            raise fields.error(name, "a value, or no such field: null switches the step off")
    for name, allowed in _FIXED.items():
        fields.one_of(name, allowed)
    _check_geometry(fields, config.vision.image_size)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if fields.get("do_normalize") in (None, True):
        mean = fields.triple("image_mean", config.pixel_mean, or_one=True)
        std = fields.triple("image_std", config.pixel_std, or_one=True)
    factor = 1 / 255
    if fields.get("do_rescale") is False:
        factor = 1.0
    elif fields.get("rescale_factor") is not None:
        factor = fields.number("rescale_factor")
    # (x factor - mean) / std = (x / 255 - mean / scale) / (std / scale)
    scale = 255 * factor
    if math.isclose(scale, 1, rel_tol=1e-9):
        scale = 1.0
    config.pixel_mean = (mean[0] / scale, mean[1] / scale, mean[2] / scale)
    config.pixel_std = (std[0] / scale, std[1] / scale, std[2] / scale)


def take_open_clip(fields: Fields, config: ClipConfig) -> None:
    """Sets mean and deviation to those of `preprocess_cfg` in `open_clip_config.json`.

    Raises:
        WeightsError: A field that asks for another view than ours, by name.
    """
    for name, allowed in _OPEN_CLIP_FIXED.items():
        fields.one_of(name, allowed)
    fields.refuse_unknown([*_OPEN_CLIP_FIXED, *_OPEN_CLIP_READ])
    side = config.vision.image_size
    fields.one_of("size", [None, side, [side, side]])
    config.pixel_mean = fields.triple("mean", config.pixel_mean)
    config.pixel_std = fields.triple("std", config.pixel_std)


def _check_geometry(fields: Fields, side: int) -> None:
    """Passes when the shorter side and the crop are both the model's image size."""
    size, crop = (_without_nulls(fields.get(name)) for name in ("size", "crop_size"))
    if size is None and crop is None:
        return
    # Where only one of them is said, `transformers` has 224 for the other.
    size, crop = (_DEFAULT_SIZE if value is None else value for value in (size, crop))
    is_square = fields.get("default_to_square") is True and not isinstance(size, dict)
    if size not in (side, {"shortest_edge": side}) or is_square:
        raise fields.error(
            "size",
            f"{{'shortest_edge': {side}}}: the shorter edge at the model's image_size, no other "
            "geometry",
        )
    if crop not in (side, {"height": side, "width": side}, [side, side]):
        raise fields.error("crop_size", f"{side}, the model's image_size")


def _without_nulls(size: Any) -> Any:
    """A size as it was meant: `transformers` writes the sides that it lacks as nulls."""
    if isinstance(size, dict):
        return {side: value for side, value in size.items() if value is not None}
    return size
