"""Labelled images for measuring accuracy, on a device as on a workstation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecifar.runtime.arrays import read_npz
from edgecifar.runtime.decoding import Decoded, decode, scaled
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import WHOLE, class_names, scan
from edgecifar.runtime.splits import (
    SPLITS,
    cut,
    digest_all,
    fingerprint,
    missing_shares,
    order,
)


@dataclass(frozen=True)
class Labelled:
    """One split of a data set.

    `images` uint8 [N, H, W, 3], `labels` int64 [N] indexing `classes`; `fingerprint` identifies
    exactly these images and labels. `name` and `dataset_fingerprint` (of the whole set) are known
    for packed files.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str
    name: str
    dataset_fingerprint: str | None = None


def read_labelled(
    path: str | Path, *, image_size: tuple[int, int] | None = None, split: str = "test"
) -> Labelled:
    """Read one split from class folders, a zip of them, or an .npz file.

    A split that the data don't name is cut from the rest by the rule of `splits`, the same that
    training uses: a model is never measured on the images that it was trained on. `image_size`
    is (height, width). Raises EdgecifarError as `scan`, `decode` and `read_npz` do.
    """
    path = Path(path)
    if split not in SPLITS:
        raise EdgecifarError(f"unknown split {split}: choose one of {', '.join(SPLITS)}")
    _refuse_official_archives(path)
    if path.suffix.lower() == ".npz":
        return _from_npz(path, split, image_size)
    parts = scan(path)
    classes = class_names(parts, path)
    part = _part_of(split, parts, path)
    decoded = decode(parts[part], classes, image_size=image_size)
    rows, identity = _select(split, part, parts, decoded, classes)
    return Labelled(decoded.images[rows], decoded.labels[rows], classes, identity, path.stem)


def as_packed(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], name: str
) -> Labelled:
    """Return test images in memory with the fingerprint that a file packed of them has."""
    content = {"test": (labels, digest_all(images))}
    return Labelled(images, labels, classes, fingerprint(classes, content), name)


def _from_npz(path: Path, split: str, image_size: tuple[int, int] | None) -> Labelled:
    stored = read_npz(path)
    part = split if stored.packed else _part_of(split, stored.parts, path)
    if part not in stored.parts:
        raise EdgecifarError(
            f"{path} was packed from {' and '.join(stored.parts)}: give a file packed from {split}"
        )
    images, labels = stored.parts[part]
    decoded = scaled(images, labels, image_size)
    # What was packed is one split already; nothing may be cut from it.
    parts = dict.fromkeys(SPLITS) if stored.packed else stored.parts
    rows, identity = _select(split, part, parts, decoded, stored.classes)
    return Labelled(
        decoded.images[rows],
        labels[rows],
        stored.classes,
        identity,
        stored.name or path.stem,
        stored.dataset_fingerprint,
    )


def _part_of(split: str, parts: Collection[str], path: Path) -> str:
    """Return the part that the split lies in: its own, or the training images."""
    for part in (split, "train", WHOLE):
        if part in parts:
            return part
    raise EdgecifarError(
        f"{path} has only {' and '.join(parts)} images: choose that split or another file"
    )


def _select(
    split: str, part: str, parts: Collection[str], decoded: Decoded, classes: tuple[str, ...]
) -> tuple[np.ndarray, str]:
    """Return the rows of the split among those of its part, and their fingerprint."""
    labels, identity = decoded.labels, decoded.digests
    if part in ("train", WHOLE):
        rows = cut(labels, identity, missing_shares(parts), classes)[split]
    else:
        rows = order(labels, identity)
    content = {split: (labels[rows], identity[rows])}
    return rows, fingerprint(classes, content, decoded.scaled_to)


def _refuse_official_archives(path: Path) -> None:
    batches = path.is_dir() and any(
        any(path.glob(pattern)) for pattern in ("data_batch_*", "test_batch*", "*/test_batch*")
    )
    if batches or (path.is_file() and path.name.lower().endswith((".tar.gz", ".tgz", ".tar"))):
        raise EdgecifarError(
            f"{path} is an archive of CIFAR's own format: run `edgecifar data pack --data {path}` "
            "on the workstation and give the .npz file here"
        )
