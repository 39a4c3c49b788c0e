"""Read tensors from PyTorch's legacy file format without PyTorch.

Such a file is a row of pickles (magic number, protocol version, facts on the system, a dict of
tensors that refer to storages by key, the list of keys) and then, for each key, the number of
elements as int64 and the raw little-endian elements. A pickle may name any callable; this one may
name only what a dict of tensors needs, and none of that is PyTorch's own code.
"""

import collections
import pickle
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from edgecifar.runtime.errors import EdgecifarError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _View(NamedTuple):
    """A tensor before the storages are read; sizes and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, elements: np.ndarray) -> np.ndarray:
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)
        )
        if min((self.offset, *self.strides, *self.shape)) < 0 or last >= len(elements):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [step * elements.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides)
        return view.copy()


def _rebuild(storage, offset, shape, strides, _requires_grad, _hooks) -> _View:
    return _View(storage, offset, shape, strides)


_ADMITTED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None

    def persistent_load(self, pid):
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        return _Storage(key, dtype, count)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the float32 and int64 tensors of a state dict by name.

    Raises EdgecifarError if `path` is missing, cut short or anything but a plain state dict in the
    legacy format.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise EdgecifarError(f"{path} can't be read: {error.strerror or error}") from error
    # What a hostile or damaged pickle raises is as various as what it may say.
    except Exception as error:
        raise EdgecifarError(
            f"{path} is not a plain PyTorch state dict in the legacy format ({error}): "
            "save it with `torch.save(state, path, _use_new_zipfile_serialization=False)`"
        ) from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
        raise ValueError("the magic number is missing")
    if not _load(file)["little_endian"]:
        raise ValueError("it is big-endian")
    views, keys = _load(file), _load(file)
    declared = {view.storage.key: view.storage for view in views.values()}
    storages = {key: _read_storage(file, declared[key]) for key in keys}
    return {name: view.array(storages[view.storage.key]) for name, view in views.items()}


def _load(file: BinaryIO):
    return _Unpickler(file).load()


def _read_storage(file: BinaryIO, storage: _Storage) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little", signed=True)
    raw = file.read(storage.dtype.itemsize * max(count, 0))
    if count != storage.count or len(raw) != storage.dtype.itemsize * count:
        raise ValueError("it is cut short")
    return np.frombuffer(raw, storage.dtype)
