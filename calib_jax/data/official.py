"""Where data sets come from, and the command that prepares each."""

from __future__ import annotations

import pathlib
import shlex

import tensorflow_datasets as tfds

OFFICIAL_ARCHIVES = {
    "image_folder/NAME": "any folder, .zip or .tar of .../CLASS/FILE or .../SPLIT/CLASS/FILE",
    "imagenet_a": "imagenet-a.tar of github.com/hendrycks/natural-adv-examples",
    "imagenet_c": "blur.tar, digital.tar, noise.tar, weather.tar of zenodo.org/records/2235448",
    "imagenet_r": "imagenet-r.tar of github.com/hendrycks/imagenet-r",
    "imagenet_real": "ILSVRC2012_img_val.tar of image-net.org, with real.json beside it",
    "imagenet_sketch": "ImageNet-Sketch.zip of github.com/HaohanWang/ImageNet-Sketch",
    "imagenet_v2/matched-frequency": "what imagenetv2-matched-frequency.tar.gz of "
    "huggingface.co/datasets/vaishaal/ImageNetV2 unpacks to",
    "objectnet": "what objectnet-1.0.zip of objectnet.dev unpacks to",
    "pacs": "PACS.zip of domaingeneralization.github.io",
}
"""What our builders read, without TensorFlow. TFDS has four of them too, and downloads those."""

_ONE_DOWNLOAD = ("cifar10_corrupted",)
"""Data sets of TFDS whose configs all come in one file."""


def command(name: str, data_dir: pathlib.Path) -> str:
    """The command that prepares a data set; empty where none is known.

    Args:
        name: As `Split` has it: `objectnet`, `imagenet_c/fog_3`.
        data_dir: Folder to write to.
    """
    base = name.partition("/")[0]
    ours = next((own for own in (name, base) if own in OFFICIAL_ARCHIVES), "")
    source = OFFICIAL_ARCHIVES.get(ours, "")
    if base == "image_folder":
        ours, source = name, OFFICIAL_ARCHIVES["image_folder/NAME"]
    if not ours and base not in tfds.list_builders(with_community_datasets=False):
        return ""
    whole = f"{base}/*" if base in _ONE_DOWNLOAD else name
    start = f"python -m calib_jax.data.prepare {shlex.quote(ours or whole)}"
    archive = f" --archive=PATH (PATH: {source})" if source else ""
    return f"{start} --data_dir={shlex.quote(str(data_dir))}{archive}"
