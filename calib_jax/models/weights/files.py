"""The tensors of weight files: safetensors, whole or in shards, and torch's archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

from calib_jax.core import manifests
from calib_jax.core.errors import WeightsError
from calib_jax.models.weights import pickled
from calib_jax.models.weights.fields import read_fields

INDEX = ".index.json"
SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth", ".bin")

_WRAPPERS = ("module.", "_orig_mod.")  # what data parallelism and torch.compile put before names


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by name, in the dtypes they are stored in.

    A prefix that every name has because the model was wrapped for training is taken off.

    Args:
        path: A `.safetensors` file, a `.index.json` that names such files or torch's beside
            it, or a `.pt`, `.pth` or `.bin` that `torch.save` or `torch.jit.save` wrote. It is
            read without running anything it holds (see `pickled`).

    Raises:
        WeightsError: The file is missing, damaged, of another format, or differs from its checksum.
    """
    if not path.is_file():
        raise WeightsError(f"weights: got no file at {path}, expected one. Check the path.")
    if path.name.endswith(INDEX):
        return _unwrap(_read_shards(path))
    return _unwrap(_read_file(path))


def _read_file(path: Path) -> dict[str, np.ndarray]:
    manifests.check([path], error=WeightsError)
    if path.suffix in PICKLED:
        return pickled.read_archive(path)
    if path.suffix != SAFETENSORS:
        raise WeightsError(
            f"weights: got {path}, expected a file named {SAFETENSORS}, {', '.join(PICKLED)} or "
            f"{INDEX}. Choose or rename the file."
        )
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"weights: got {path}, which is damaged or not safetensors ({error}), expected a whole "
            "file. Download it again."
        ) from error


def _read_shards(path: Path) -> dict[str, np.ndarray]:
    index = read_fields(path).inner("weight_map")
    shards = sorted({str(shard) for shard in index.values.values()})
    # Names only: an index must not point out of its folder.
    absent = [x for x in shards if Path(x).name != x or not (path.parent / x).is_file()]
    if absent or not shards:
        raise WeightsError(
            f"weights: got {path} with {len(absent)} of its {len(shards)} files missing, first "
            f"{absent[0] if absent else '(none named)'!r}, expected all of them beside it. "
            "Download them."
        )
    tensors: dict[str, np.ndarray] = {}
    for shard in shards:
        found = _read_file(path.parent / shard)
        named = {name for name, file in index.values.items() if file == shard}
        if found.keys() != named:
            raise WeightsError(
                f"weights: got {path.parent / shard} with other tensors than {path.name} says, "
                f"first {min(found.keys() ^ named)!r}, expected the same. Download them again."
            )
        tensors |= found
    return tensors


def _unwrap(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _unwrap({name.removeprefix(prefix): x for name, x in tensors.items()})
    return tensors
