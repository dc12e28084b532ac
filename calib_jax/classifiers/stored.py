"""Heads in files: exported beside a model, and kept so that none is made twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, Int

from calib_jax.classifiers.head import Classifier, Head, LinearMap
from calib_jax.core import manifests, text_files
from calib_jax.core.errors import ConfigError, ExportError, WeightsError
from calib_jax.core.trees import leaf_names
from calib_jax.core.types import Params
from calib_jax.core.version import __version__
from calib_jax.models.encoder import Encoder

CLASSIFIER_FILE = "classifier.safetensors"
_REFUSAL = (
    "which cannot be exported, expected a LinearMap. Set export to Export(models=False), or take a "
    "classifier of linear maps (ZeroShot, LinearHead)."
)


def write_head(path: pathlib.Path, head: LinearMap, class_names: Sequence[str]) -> None:
    """Writes a linear map as safetensors, at once or not at all, and then its checksum.

    Tensors: `kernel [d c]` and `bias [c]`, whose class logits are
    `normalize(image_features) @ kernel + bias`, and the unit-norm `class_embeddings [c d]`.
    Metadata: `class_names`, a JSON list.
    """
    with manifests.recorded(path.parent, [path.name]):
        _save(path, head, class_names).replace(path)


def _save(path: pathlib.Path, head: LinearMap, class_names: Sequence[str]) -> pathlib.Path:
    """A file beside the path that has all of it, to be moved there."""
    tensors = {
        "kernel": np.array(head.kernel, order="C"),
        "bias": np.asarray(head.bias),
        "class_embeddings": np.array(head.class_embeddings(), order="C"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial{os.getpid()}")
    # One entry: safetensors writes several in any order, and equal heads shall be equal files.
    metadata = {"class_names": json.dumps(list(class_names))}
    safetensors.numpy.save_file(tensors, partial, metadata=metadata)
    return partial


def read_head(path: pathlib.Path) -> tuple[LinearMap, tuple[str, ...]]:
    """The linear map and the class names that `write_head` has written.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else.
    """
    manifests.check([path], error=WeightsError)
    try:
        with safetensors.safe_open(path, "np") as file:
            names = text_files.parse_json(file.metadata()["class_names"])
            kernel, bias = file.get_tensor("kernel"), file.get_tensor("bias")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"got the class names {names!r:.60}, expected a list of texts")
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or len(names) not in (0, len(bias)):
            raise ValueError(
                f"got a kernel {kernel.shape}, a bias {bias.shape} and {len(names)} class names, "
                "expected [d c], [c] and c"
            )
        for name, values in (("kernel", kernel), ("bias", bias)):
            if not jnp.issubdtype(values.dtype, jnp.floating) or not np.isfinite(values).all():
                raise ValueError(f"got a {name} of {values.dtype}, expected finite numbers")
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"classifier: {path} cannot be read ({type(error).__name__}: {error}), expected what "
            "an export has written. Export the model again."
        ) from error
    return LinearMap(kernel=jnp.asarray(kernel), bias=jnp.asarray(bias)), tuple(names)


def linear_map(head: Head) -> LinearMap:
    """The head itself, where a file can hold it.

    Raises:
        ExportError: It is no linear map.
    """
    if isinstance(head, LinearMap):
        return head
    raise ExportError(f"export: got a {type(head).__name__}, {_REFUSAL}")


def check_exportable(classifier: Classifier, where: str) -> None:
    """Raises a ConfigError, before any training, for heads that no file can hold.

    Args:
        classifier: Of the method.
        where: The method's place in the config, for the message.
    """
    if not issubclass(classifier.head_type, LinearMap):
        made = f"{type(classifier).__name__} makes a {classifier.head_type.__name__}"
        raise ConfigError(f"{where}.classifier: {made}, {_REFUSAL}")


def kept_head(
    folder: pathlib.Path,
    classifier: Classifier,
    encoder: Encoder,
    params: Params,
    class_tokens: Int[Array, "c k t"],
) -> Head:
    """The classifier's head for these parameters and prompts, from `folder` if it lies there.

    Linear maps alone are kept; any other head is made anew. The file's name begins with a hash of
    what the head depends on. That is the model, all but the image tower's parameters, the prompts,
    the kind of device, and this library's version. It ends with a hash of its content: what is
    damaged is made anew. Where nothing can be written, the head is made all the same, and a warning
    says so.
    """
    if not issubclass(classifier.head_type, LinearMap):
        return classifier.head(params["classifier"], encoder, params["encoder"], class_tokens)
    name = _fingerprint(classifier, encoder, params, class_tokens)
    for path in sorted(folder.glob(f"{name}-*.safetensors")):
        with contextlib.suppress(OSError, WeightsError):
            if path.name == _kept_name(name, path):
                return read_head(path)[0]
    head = classifier.head(params["classifier"], encoder, params["encoder"], class_tokens)
    try:
        whole = _save(folder / name, linear_map(head), ())
        whole.replace(folder / _kept_name(name, whole))
    except OSError as error:
        logging.getLogger("calib_jax").warning(
            "cache_dir: the head cannot be kept in %s (%s) and will be made again; set "
            "--config.cache_dir to another folder",
            folder,
            error.strerror or error,
        )
    return head


def _kept_name(name: str, path: pathlib.Path) -> str:
    """What a file of this content is called."""
    return f"{name}-{manifests.digest(path)[:32]}.safetensors"


def _fingerprint(
    classifier: Classifier, encoder: Encoder, params: Params, class_tokens: Int[Array, "c k t"]
) -> str:
    used: dict[str, Any] = {
        "classifier": params["classifier"],
        "encoder": {name: part for name, part in params["encoder"].items() if name != "image"},
        "tokens": class_tokens,
    }
    digest = hashlib.blake2b(digest_size=16)
    kind = (classifier, encoder, jax.default_backend(), __version__)
    digest.update(repr(kind).encode())
    for name, leaf in zip(leaf_names(used), jax.tree.leaves(used), strict=True):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
