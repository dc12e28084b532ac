"""CIFAR-10-C as published; TFDS numbers its classes."""

from collections.abc import Sequence

from calib_jax.data.datasets.records import NumberedSplit, Split

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "frosted_glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic",
    "pixelate",
    "jpeg_compression",
)
"""The 15 of CIFAR-10-C's benchmark, as TFDS calls them; it has four more."""


def corrupted(
    corruptions: Sequence[str] = CORRUPTIONS, severities: Sequence[int] = (1, 2, 3, 4, 5)
) -> dict[str, Split]:
    """CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019), by names as `fog 3`.

    `cifar10.CorruptedTest` writes copies of its own under the same names, with named classes: a
    run that finds those refuses these splits.
    """
    return {
        f"{corruption.replace('_', ' ')} {severity}": NumberedSplit(
            name=f"cifar10_corrupted/{corruption}_{severity}"
        )
        for corruption in corruptions
        for severity in severities
    }
