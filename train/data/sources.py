"""Where images come from: one Source for each kind of data, all read the same way."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.runtime.arrays import read_npz
from edgecifar.runtime.decoding import Allocate, Decoded, Progress, decode, scaled
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import WHOLE, class_names, is_among, named_after, results_in, scan
from edgecifar.runtime.images import unreadable, walk_files
from edgecifar.train.data import cifar

DIGITS_SIZE = (32, 32)
"""Height and width to which scikit-learn's 8x8 digits are scaled: CIFAR-10's."""

_LARGEST = 512  # pixels a side, unless a size is asked for: photos as taken would fill the disk


@dataclass(frozen=True)
class Reading:
    """How to read: size to scale to (or None), whether to skip bad files, where to decode to."""

    image_size: tuple[int, int] | None
    skip_corrupt: bool
    allocate: Allocate
    progress: Progress


@dataclass(frozen=True)
class Parts:
    """What a source holds: decoded images of "train", "validation", "test", or WHOLE alone."""

    classes: tuple[str, ...]
    parts: dict[str, Decoded]
    name: str | None = None  # of the set, where what is in the files tells it


@dataclass(frozen=True)
class Source:
    """Data that can be read.

    `stamp` is a JSON value that changes when the data may have changed and is cheap to find.
    `official` marks CIFAR's own archives, whose content must be what was published.
    """

    name: str
    location: str
    stamp: Any
    read: Callable[[Reading], Parts]
    official: bool = False


def recognise(path: Path) -> Source:
    """Return the source for a path: class folders, a zip, an .npz file or a CIFAR archive.

    Raises EdgecifarError if it doesn't exist or is of no known kind.
    """
    path = path.expanduser()
    if not path.exists():
        raise EdgecifarError(f"{path} does not exist: check the path of the data")
    path = path.resolve()
    name = named_after(path)
    stamp = [str(path), _stamp(path)]
    stamp += [name] if name != path.stem else []  # it was called otherwise once
    suffix = path.suffix.lower()
    if cifar.is_official(path):
        return Source(name, str(path), stamp, lambda r: _from_cifar(path, r), official=True)
    if suffix == ".npz":
        return Source(name, str(path), stamp, lambda r: _from_npz(path, r))
    if path.is_dir() or suffix == ".zip":
        return Source(name, str(path), stamp, lambda r: _from_folders(path, r))
    raise EdgecifarError(
        f"{path} is no data set: give a folder or zip of class folders, an .npz file "
        "or a CIFAR archive"
    )


def digits() -> Source:
    """Return the 1,797 handwritten digits that scikit-learn carries, as 32x32 RGB."""
    return Source("digits", "scikit-learn's digits", "digits", _from_digits)


def _stamp(path: Path) -> Any:
    """Sizes and times of the files at a path: what tells a changed set without reading it.

    Links are followed, as they are when it is read. Hidden files, and runs that lie there too, are
    none of it.
    """
    if path.is_file():
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    found, results = [], results_in(path)
    for parent, names in walk_files(path, unreadable):
        if is_among(Path(parent).relative_to(path).parts, results):
            continue
        for name in names:
            if name.startswith("."):
                continue
            file = os.path.join(parent, name)
            status = os.stat(file) if os.path.exists(file) else os.lstat(file)
            found.append([os.path.relpath(parent, path), name, status.st_size, status.st_mtime_ns])
    return found


def _from_folders(path: Path, reading: Reading) -> Parts:
    entries = scan(path)
    classes = class_names(entries, path)
    total = sum(map(len, entries.values()))
    parts: dict[str, Decoded] = {}
    done = 0
    for part, files in entries.items():
        before = done
        parts[part] = decode(
            files,
            classes,
            image_size=reading.image_size,
            skip_corrupt=reading.skip_corrupt,
            mend="replace or remove it, or leave out such images with --skip-corrupt",
            allocate=partial(_allocate, reading),
            progress=lambda count, _, before=before: reading.progress(before + count, total),
        )
        done += len(files)
    return Parts(classes, parts)


def _allocate(reading: Reading, shape: tuple[int, ...]) -> np.ndarray:
    """Give an array for decoded images; EdgecifarError for photos that nobody asked to scale."""
    _, height, width, _ = shape
    if reading.image_size is None and max(height, width) > _LARGEST:
        raise EdgecifarError(
            f"images are {width}x{height}: scale them with --image-size N (or HxW), such as "
            "--image-size 96"
        )
    return reading.allocate(shape)


def _from_npz(path: Path, reading: Reading) -> Parts:
    stored = read_npz(path)
    return Parts(stored.classes, _scaled(stored.parts, reading))


def _from_cifar(path: Path, reading: Reading) -> Parts:
    name, classes, parts = cifar.read(path)
    return Parts(classes, _scaled(parts, reading), name)


def _scaled(
    parts: dict[str, tuple[np.ndarray, np.ndarray]], reading: Reading
) -> dict[str, Decoded]:
    size, allocate = reading.image_size, reading.allocate
    return {part: scaled(*pair, size, allocate=allocate) for part, pair in parts.items()}


def _from_digits(reading: Reading) -> Parts:
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    images = np.repeat(grey[..., None], 3, axis=-1)
    labels, size = found.target.astype(np.int64), reading.image_size or DIGITS_SIZE
    decoded = scaled(images, labels, size, allocate=reading.allocate)
    return Parts(tuple(str(name) for name in found.target_names), {WHOLE: decoded})
