"""One split in one file, for a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data.dataset import Dataset, Split
from edgecifar.train.files import write_whole


def pack(dataset: Dataset, split: str, path: Path, *, limit: int | None = None) -> Split:
    """Write a split as an .npz file that `edgecifar.runtime.labelled` reads; return what is in it.

    With `limit` that many images, each class with its share. `path` is replaced whole.
    """
    chosen = dataset.splits[split]
    rows = stratified(chosen.labels, len(dataset.classes), limit)
    packed = Split(chosen.images[rows], chosen.labels[rows])
    write_whole(
        path,
        lambda partial: np.savez_compressed(
            partial,
            images=packed.images,
            labels=packed.labels,
            classes=np.array(dataset.classes),
            split=np.array(split),
            name=np.array(dataset.name),
            dataset_fingerprint=np.array(dataset.fingerprint),
        ),
    )
    return packed


def stratified(labels: np.ndarray, class_count: int, limit: int | None) -> np.ndarray:
    """Return the rows of at most `limit` images, in their order, each class with its share.

    The first images of each class are taken; shares are rounded by largest remainder. Raises
    EdgecifarError if `limit` is less than one image for each class.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    if limit < class_count:
        raise EdgecifarError(
            f"{limit} images can't show {class_count} classes: pack at least {class_count}"
        )
    counts = np.bincount(labels, minlength=class_count)
    exact = counts * limit / len(labels)
    quota = np.maximum(np.floor(exact).astype(int), np.minimum(counts, 1))
    # A small class raised to one image may already have used up what is left to hand out.
    for label in np.argsort(quota - exact, kind="stable")[: max(0, limit - quota.sum())]:
        quota[label] += 1
    while quota.sum() > limit:
        quota[np.argmax(quota)] -= 1
    rows = [np.flatnonzero(labels == label)[:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(rows))
