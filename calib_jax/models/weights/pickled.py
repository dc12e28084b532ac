"""Torch's archives without torch, and without running anything that they hold.

A pickle is a program that may call any function it names. Here it can name only the few that
build a table of tensors, and each is a stand-in made for that one reading. Any other name is
an error before it is looked up. `torch.save` archives hold a table of tensors, `torch.jit.save`
archives (OpenAI's own `.pt`) modules within modules, whose code is never read.
"""

from __future__ import annotations

import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from calib_jax.core.errors import WeightsError

_DTYPES = {
    "BoolStorage": np.dtype(np.bool_),
    "ByteStorage": np.dtype(np.uint8),
    "CharStorage": np.dtype(np.int8),
    "ShortStorage": np.dtype("<i2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
# What a damaged or forged archive can make `zipfile` and `pickle` raise.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


class _Storage(NamedTuple):
    """A run of numbers in the archive, not read yet."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; sizes and strides in numbers, not bytes.

    `is_negated` is torch's negative bit: the storage holds minus the numbers.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_negated: bool = False


class _StorageType(NamedTuple):
    """Stands for `torch.HalfStorage` and its like."""

    dtype: np.dtype


class _Refused(Exception):
    """The pickle names something that no table of tensors needs."""


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by name, in the dtypes they are stored in.

    A training checkpoint's `state_dict` is taken out of it.

    Raises:
        WeightsError: The file is damaged, of torch's format before 1.6, or asks for anything
            but tensors.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(2)
        if start == b"\x80\x02":
            raise WeightsError(
                f"weights: got {path} in torch's format before 1.6, expected a zip archive. Load "
                "it with torch.load(..., weights_only=True) and torch.save it again."
            )
        raise _damaged(path, "no zip archive")
    try:
        with zipfile.ZipFile(path) as archive:
            root, order = _layout(archive)
            if order not in (b"", b"little"):
                raise WeightsError(
                    f"weights: got {path} with {order.decode(errors='replace')}-endian numbers, "
                    "expected little. torch.save it again on another machine."
                )
            with archive.open(f"{root}/data.pkl") as file:
                content = _Unpickler(file).load()
            return {
                name: _read(archive, f"{root}/data/{x.storage.key}", x)
                for name, x in _named_tensors(content, path)
            }
    except _Refused as error:
        raise WeightsError(
            f"weights: got {path}, which asks for {error}, expected tensors alone; nothing of it "
            "was run. Load it where you trust it and save its state_dict as .safetensors."
        ) from None
    except WeightsError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"weights: got {path}, which is damaged or not torch's ({reason}), expected a whole "
        "archive. Download it again."
    )


def _layout(archive: zipfile.ZipFile) -> tuple[str, bytes]:
    """The archive's top folder, and what it says about the order of bytes."""
    for name in archive.namelist():
        root, _, rest = name.partition("/")
        if rest == "data.pkl":
            order = f"{root}/byteorder"
            return root, archive.read(order).strip() if order in archive.namelist() else b""
    raise ValueError("no data.pkl")


class _Unpickler(pickle.Unpickler):
    """Builds tables and modules of `_Tensor`s; every other name raises `_Refused`."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")

        # Made here, so that a pickle that sets attributes on them changes nothing that stays.
        class Module:
            state: Any = None

            def __setstate__(self, state: Any) -> None:
                self.state = state

        def rebuild_tensor(
            storage: Any, offset: Any, shape: Any, strides: Any, *further: Any
        ) -> _Tensor:
            # requires_grad, the backward hooks and, where a tensor has any, its other properties.
            is_negated = _is_negated(further[2] if len(further) > 2 else None)
            return _Tensor(storage, offset, tuple(shape), tuple(strides), is_negated)

        def first(value: Any, *_: Any) -> Any:
            return value

        self._module = Module
        self._names: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): first,
            ("torch.jit._pickle", "restore_type_tag"): first,
            **{("torch.jit._pickle", name): first for name in _LISTS},
            **{("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()},
        }

    def find_class(self, module: str, name: str, /) -> Any:
        if module.split(".")[0] == "__torch__":
            return self._module
        if (module, name) not in self._names:
            raise _Refused(f"{module}.{name}")
        return self._names[module, name]

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, storage_type, key, _, size = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"{kind!r} is no storage")
        return _Storage(str(key), storage_type.dtype, size)


def _is_negated(properties: Any) -> bool:
    """Whether torch's lazy negation is set; any other property but an unset one is refused."""
    if not properties:
        return False
    if not isinstance(properties, Mapping):
        raise _Refused(f"the tensor property {properties!r:.40}")
    for name, value in properties.items():
        if name != "neg" and value is not False:
            raise _Refused(f"the tensor property {name!r:.40}")
    return bool(properties.get("neg"))


def _named_tensors(content: Any, path: Path) -> Iterator[tuple[str, _Tensor]]:
    """The tensors of a table, of a checkpoint's table, or of modules within modules."""
    if not isinstance(content, Mapping):
        yield from _module_tensors(content)
        return
    table = content.get("state_dict", content)
    table = table if isinstance(table, Mapping) else {}
    others = [name for name, x in table.items() if not isinstance(x, _Tensor)]
    if others or not table:
        found = f"{others[0]!r}, which is no tensor" if others else "no tensors"
        raise WeightsError(
            f"weights: got {path} with {found}, expected names and tensors, or a checkpoint with "
            "them under 'state_dict'. Save the model's state_dict."
        )
    yield from ((str(name), x) for name, x in table.items())


def _module_tensors(module: Any) -> Iterator[tuple[str, _Tensor]]:
    """Depth first with dotted names; what is no tensor and no module is left out."""
    waiting, seen = [("", module)], set()
    while waiting:
        prefix, module = waiting.pop()
        state = getattr(module, "state", None)
        if not isinstance(state, Mapping) or id(module) in seen:
            raise ValueError("no table of tensors and no module")
        seen.add(id(module))  # a module within itself would have no end
        for name, x in state.items():
            if isinstance(x, _Tensor):
                yield f"{prefix}{name}", x
            elif hasattr(x, "state"):
                waiting.append((f"{prefix}{name}.", x))


def _read(archive: zipfile.ZipFile, name: str, tensor: _Tensor) -> np.ndarray:
    """The numbers of a tensor, after checking that all of them are within its storage."""
    storage, offset, shape, strides, is_negated = tensor
    integers = (storage.size, offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(x) is not int or x < 0 for x in integers):
        raise ValueError("a tensor of no size")
    count = math.prod(shape)
    last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if count else -1
    if offset + last >= storage.size or count > storage.size:
        raise ValueError(f"a tensor of shape {shape} in {storage.size} numbers")
    if archive.getinfo(name).file_size != storage.size * storage.dtype.itemsize:
        raise ValueError(f"{name} is not {storage.size} numbers of {storage.dtype}")
    numbers = np.frombuffer(archive.read(name), storage.dtype)[offset:]
    steps = tuple(step * storage.dtype.itemsize for step in strides)
    values = np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False)
    return np.negative(values) if is_negated else values
