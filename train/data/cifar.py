"""The official CIFAR-10 and CIFAR-100 archives, in their python and binary versions.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. An image is 3,072 bytes: 1,024 red, then
green, then blue, each row by row. Archives are read in place; nothing is extracted.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgecifar.runtime.errors import EdgecifarError

_IMAGE_BYTES = 3 * 32 * 32
_MAX_MEMBER_BYTES = 256 << 20  # CIFAR-100's training pickle has 148 MiB.
_SUFFIXES = (".tar.gz", ".tgz", ".tar")

Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Layout:
    """Which files make up a version of an archive, and how to read one of them."""

    name: str
    classes_file: str
    train: tuple[str, ...]
    test: str
    decode: Callable[[bytes], tuple[np.ndarray, Sequence[int]]]
    decode_classes: Callable[[bytes], tuple[str, ...]]

    @property
    def files(self) -> tuple[str, ...]:
        return (self.classes_file, *self.train, self.test)


def is_official(path: Path) -> bool:
    """Whether a path is, by its name or its files' names, one of CIFAR's archives."""
    if path.is_file():
        return path.name.lower().endswith(_SUFFIXES)
    return _batches_folder(path) is not None


def read(path: Path) -> tuple[str, tuple[str, ...], dict[str, Part]]:
    """Read an archive or the folder of its extracted files.

    Returns "cifar10" or "cifar100", the class names and, for "train" and "test", images uint8 [N,
    32, 32, 3] with labels int64 [N]. Raises EdgecifarError if a file is missing, truncated or not
    what CIFAR publishes.
    """
    files = _read_folder(path) if path.is_dir() else _read_tar(path)
    layout = next((known for known in _LAYOUTS if known.test in files), None)
    if layout is None:
        raise EdgecifarError(
            f"{path} holds no CIFAR batches: give an archive of CIFAR-10 or 100; unpack images of "
            "your own, and give their folder or a zip of it"
        )
    for name in layout.files:
        if name not in files:
            raise EdgecifarError(f"{path} lacks {name}: download the archive again")
    classes = _guarded(layout.decode_classes, files, layout.classes_file, path)
    train = [_batch(layout, files, name, len(classes), path) for name in layout.train]
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    parts = {
        "train": (images, labels),
        "test": _batch(layout, files, layout.test, len(classes), path),
    }
    return layout.name, classes, parts


def _batches_folder(path: Path) -> Path | None:
    """Return the folder with the batches: the path itself or the only one below it."""
    for folder in (path, *(p for p in sorted(path.glob("cifar-*")) if p.is_dir())):
        files = {child.name for child in folder.iterdir() if child.is_file()}
        if any(known.test in files and files & set(known.train) for known in _LAYOUTS):
            return folder
    return None


def _read_folder(path: Path) -> dict[str, bytes]:
    folder = _batches_folder(path) or path
    names = {name for known in _LAYOUTS for name in known.files}
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _read_tar(path: Path) -> dict[str, bytes]:
    names = {name for known in _LAYOUTS for name in known.files}
    files = {}
    try:
        with _unpacked(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if member.isfile() and name in names and member.size <= _MAX_MEMBER_BYTES:
                    files[name] = archive.extractfile(member).read()
            while stream.read(1 << 20):
                pass  # The checksum of all that was read stands at the end of a gzip file.
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise EdgecifarError(
            f"{path} is truncated or altered ({error}): download it again with "
            "`edgecifar data fetch`"
        ) from None
    return files


def _unpacked(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _guarded(decode: Callable[[bytes], Any], files: dict[str, bytes], name: str, path: Path) -> Any:
    try:
        return decode(files[name])
    except Exception as error:  # Damaged pickles fail in every way there is.
        raise EdgecifarError(
            f"{name} of {path} is truncated or altered ({error}): download the archive again"
        ) from None


def _batch(
    layout: _Layout, files: dict[str, bytes], name: str, class_count: int, path: Path
) -> Part:
    pixels, labels = _guarded(layout.decode, files, name, path)
    labels = np.asarray(labels)
    sound = (
        pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == _IMAGE_BYTES
        and labels.shape == (len(pixels),)
        and labels.dtype.kind in "iu"
        and len(pixels)
        and 0 <= labels.min() <= labels.max() < class_count
    )
    if not sound:
        raise EdgecifarError(
            f"{name} of {path} is altered (not {_IMAGE_BYTES} bytes and one label below "
            f"{class_count} per image): download the archive again"
        )
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


class _Inert:
    """Stands for `numpy.ndarray` and `numpy.dtype` in a pickle: keeps a state, does nothing."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Return the array of bytes that the state describes; ValueError if it isn't one."""
        _, shape, kind, by_column, content = self.state
        if kind.arguments[:1] not in (("u1",), (b"u1",)) or not isinstance(content, bytes):
            raise ValueError("an array that is not of bytes")
        flat = np.frombuffer(content, np.uint8)
        return flat.reshape(shape, order="F" if by_column else "C")


def _reconstruct(*_: Any) -> _Inert:
    return _Inert()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Admits the names that occur in CIFAR's pickles, bound to functions without effects."""

    _ADMITTED = {  # noqa: RUF012 (a table, never changed)
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Inert,
        ("numpy", "dtype"): _Inert,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._ADMITTED[module, name]


def _unpickle(content: bytes) -> dict[bytes, Any]:
    found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    if not isinstance(found, dict):
        raise ValueError("no dictionary")
    return {key if isinstance(key, bytes) else str(key).encode(): found[key] for key in found}


def _python_batch(content: bytes) -> tuple[np.ndarray, Sequence[int]]:
    batch = _unpickle(content)
    labels = batch.get(b"labels", batch.get(b"fine_labels"))
    return batch[b"data"].array(), labels


def _python_classes(content: bytes) -> tuple[str, ...]:
    meta = _unpickle(content)
    names = meta.get(b"label_names", meta.get(b"fine_label_names"))
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _binary_batch(label_bytes: int) -> Callable[[bytes], tuple[np.ndarray, Sequence[int]]]:
    def decode(content: bytes) -> tuple[np.ndarray, Sequence[int]]:
        rows = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + _IMAGE_BYTES)
        return rows[:, label_bytes:], rows[:, label_bytes - 1]  # the last label is the fine one

    return decode


def _text_classes(content: bytes) -> tuple[str, ...]:
    return tuple(content.decode("ascii").split())


_TEN = tuple(f"data_batch_{number}" for number in range(1, 6))
_LAYOUTS = (
    _Layout("cifar10", "batches.meta", _TEN, "test_batch", _python_batch, _python_classes),
    _Layout(
        "cifar10",
        "batches.meta.txt",
        tuple(f"{name}.bin" for name in _TEN),
        "test_batch.bin",
        _binary_batch(1),
        _text_classes,
    ),
    _Layout("cifar100", "meta", ("train",), "test", _python_batch, _python_classes),
    _Layout(
        "cifar100",
        "fine_label_names.txt",
        ("train.bin",),
        "test.bin",
        _binary_batch(2),
        _text_classes,
    ),
)
