"""Labelled images for measuring accuracy, on a device as on a workstation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgecifar.runtime.arrays import read_npz
from edgecifar.runtime.decoding import Decoded, Progress, decode, scaled
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import PART_NAMES, WHOLE, class_names, named_after, scan
from edgecifar.runtime.splits import (
    SPLITS,
    cut,
    digest_all,
    fingerprint,
    missing_shares,
    order,
)

_DIVIDED = ("train", WHOLE)  # the parts that other splits are cut from
_T = TypeVar("_T")


@dataclass(frozen=True)
class Labelled:
    """One split of a data set.

    `images` uint8 [N, H, W, 3], `labels` int64 [N] indexing `classes`; `fingerprint` identifies
    exactly these images and labels. `name` and `dataset_fingerprint` (of the whole set) are known
    for packed files. `of` is the number of images that they were cut from, None if it is these.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str
    name: str
    dataset_fingerprint: str | None = None
    of: int | None = None


def read_labelled(
    path: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    split: str = "test",
    progress: Progress | None = None,
) -> Labelled:
    """Read one split from class folders, a zip of them, or an .npz file.

    A split that the data don't name is cut from the rest by the rule of `splits`, the same that
    training uses: a model is never measured on the images that it was trained on. What is itself
    called `test` or `val` is such a part, and taken as a whole. `image_size` is (height, width).
    Raises EdgecifarError as `scan`, `decode` and `read_npz` do.
    """
    path = Path(path)
    if split not in SPLITS:
        raise EdgecifarError(f"unknown split {split}: choose one of {', '.join(SPLITS)}")
    _refuse_official_archives(path)
    if path.suffix.lower() == ".npz":
        return _from_npz(path, split, image_size)
    parts = _named(path, split, scan(path))
    classes = class_names(parts, path)
    part = _part_of(split, parts, path)
    entries, rows = parts[part], slice(None)
    if image_size and part in _DIVIDED:  # a board holds no more than it measures
        small = decode(entries, classes, image_size=(1, 1), progress=progress)
        chosen = _rows(split, part, parts, small, classes)
        entries = [entries[row] for row in chosen]
        decoded = decode(entries, classes, image_size=image_size, progress=progress)
    else:
        decoded = decode(entries, classes, image_size=image_size, progress=progress)
        rows = _rows(split, part, parts, decoded, classes)
    images, labels = decoded.images[rows], decoded.labels[rows]
    return in_memory(images, labels, classes, named_after(path), split=split, of=len(parts[part]))


def in_memory(
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    name: str,
    *,
    split: str = "test",
    dataset_fingerprint: str | None = None,
    of: int | None = None,
) -> Labelled:
    """Return images with their fingerprint, which is the same wherever they were scaled.

    `of` is the number of images in the part of the set that they come from.
    """
    identity = fingerprint(classes, {split: (labels, digest_all(images))})
    of = None if of == len(labels) else of
    return Labelled(images, labels, classes, identity, name, dataset_fingerprint, of)


def _from_npz(path: Path, split: str, image_size: tuple[int, int] | None) -> Labelled:
    stored = read_npz(path)
    parts = _named(path, split, stored.parts)
    part = split if stored.packed else _part_of(split, parts, path)
    if part not in parts:
        raise EdgecifarError(
            f"{path} was packed from {' and '.join(stored.parts)}: give a file packed from {split}"
        )
    images, labels = parts[part]
    decoded = scaled(images, labels, image_size)
    if stored.packed:  # one split already, in the order of its data set
        rows = np.arange(len(labels))
    else:
        rows = _rows(split, part, parts, decoded, stored.classes)
    return in_memory(
        decoded.images[rows],
        labels[rows],
        stored.classes,
        stored.name or path.stem,
        split=split,
        dataset_fingerprint=stored.dataset_fingerprint,
        of=len(labels),
    )


def _named(path: Path, split: str, parts: Mapping[str, _T]) -> Mapping[str, _T]:
    """Return the parts; of a set without any, which its own name says to be one, that one.

    Images for validation are test images to who gives them as such.
    """
    own = PART_NAMES.get(named_after(path).lower(), "train")
    if own == "train" or WHOLE not in parts:
        return parts
    return {split if split == "test" else own: parts[WHOLE]}


def _part_of(split: str, parts: Collection[str], path: Path) -> str:
    """Return the part that the split lies in: its own, or the training images."""
    for part in (split, *_DIVIDED):
        if part in parts:
            return part
    raise EdgecifarError(
        f"{path} has only {' and '.join(parts)} images: choose that split or another file"
    )


def _rows(
    split: str, part: str, parts: Collection[str], decoded: Decoded, classes: tuple[str, ...]
) -> np.ndarray:
    """Return the rows of the split among those of its part."""
    if part in _DIVIDED:
        return cut(decoded.labels, decoded.digests, missing_shares(parts), classes)[split]
    return order(decoded.labels, decoded.digests)


def _refuse_official_archives(path: Path) -> None:
    batches = path.is_dir() and any(
        any(path.glob(pattern)) for pattern in ("data_batch_*", "test_batch*", "*/test_batch*")
    )
    if batches or (path.is_file() and path.name.lower().endswith((".tar.gz", ".tgz", ".tar"))):
        raise EdgecifarError(
            f"{path} is an archive of CIFAR's own format: run `edgecifar data pack --data {path}` "
            "on the workstation and give the .npz file here"
        )
