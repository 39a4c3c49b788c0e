"""Decoded images on disk, memory-mapped.

`datasets/FINGERPRINT/` under the cache folder holds `images.npy`, `labels.npy` and `meta.json`,
with train, validation and test one after another; `index/KEY.json` remembers which fingerprint
a source had. Both are written under another name and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from edgecifar.runtime.decoding import Decoded
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import cache_folder
from edgecifar.runtime.splits import SPLITS, assign, fingerprint
from edgecifar.train.data.dataset import Dataset, Split
from edgecifar.train.data.sources import Parts, Reading, Source
from edgecifar.train.files import write_array

CIFAR10_FINGERPRINT = "471552bee1d8842c090b960fad3f1275790dbb811905f3d1de0519b7134238d2"
"""Fingerprint of CIFAR-10 at its own size, whatever archive or folder it comes from."""

_CIFAR10_IMAGES = 60_000
# In 1 grey images of 10 and 12 bits were nearly black; in 2 TIFFs of more than 8 whose white is 0
# were negatives, and of two archives of one part one was left out; 3 counts no copies but in test.
_FORMAT = 4
_IN_MEMORY_BYTES = 1 << 30
_BYTES_AT_ONCE = 64 << 20
_STALE_SECONDS = 24 * 3600


def cached(
    source: Source,
    image_size: tuple[int, int] | None,
    skip_corrupt: bool,
    progress: Callable[[int, int], None],
) -> Dataset:
    """Return the data set of a source, from the cache or read, divided and cached now.

    Raises EdgecifarError for what is wrong with the data, and if the cache can't be written.
    """
    root = cache_folder()
    stamp = [_FORMAT, source.stamp, image_size, skip_corrupt]
    key = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:32]
    index = root / "index" / f"{key}.json"
    found = _open(root, index, source)
    if found:
        return found
    try:
        (root / "datasets").mkdir(parents=True, exist_ok=True)
        _remove_stale(root / "datasets")
        with tempfile.TemporaryDirectory(prefix=".building-", dir=root / "datasets") as work:
            reading = Reading(image_size, skip_corrupt, _allocator(Path(work)), progress)
            _build(root, index, source, source.read(reading), Path(work))
    except OSError as error:
        raise _explained(root, error) from error
    if built := _open(root, index, source):
        return built
    raise EdgecifarError(
        f"{root} doesn't keep what is written there: set EDGECIFAR_CACHE elsewhere"
    )


def _explained(root: Path, error: OSError) -> EdgecifarError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        problem, mend = f"no space left for the decoded images in {root}", "free some there, or"
    elif error.filename and not _lies_around(root, Path(error.filename)):
        return EdgecifarError(f"{error.filename} can't be read ({error.strerror}): check it")
    else:
        problem, mend = f"can't write to {root} ({error.strerror or error})", "allow it, or"
    return EdgecifarError(f"{problem}: {mend} set EDGECIFAR_CACHE to another folder")


def _lies_around(root: Path, path: Path) -> bool:
    return path == root or root in path.parents or path in root.parents


def _open(root: Path, index: Path, source: Source) -> Dataset | None:
    """Return the cached data set, or None if there is none or it isn't whole."""
    try:
        entry = json.loads(index.read_text())
        stored = _read(root / "datasets" / entry["fingerprint"])
    except (OSError, ValueError, KeyError):
        return None
    if stored is None:
        return None
    return Dataset(
        name=entry["name"],
        fingerprint=entry["fingerprint"],
        source=source.location,
        skipped=tuple(entry["skipped"]),
        copies=entry["copies"],
        classes=stored[0],
        **stored[1],
    )


def _read(folder: Path) -> tuple[tuple[str, ...], dict[str, Split]] | None:
    """Return classes and splits of a stored set, or None if it isn't whole."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        counts = [meta["counts"][split] for split in SPLITS]
        images = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy")
    except (EOFError, OSError, ValueError, KeyError):
        return None
    ends = np.cumsum(counts)
    if meta["format"] != _FORMAT or not len(images) == len(labels) == ends[-1]:
        return None
    splits = {
        split: Split(images[end - count : end], labels[end - count : end])
        for split, count, end in zip(SPLITS, counts, ends, strict=True)
    }
    return tuple(meta["classes"]), splits


def _allocator(work: Path) -> Callable[[tuple[int, ...]], np.ndarray]:
    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64))
        if size <= _IN_MEMORY_BYTES:
            return np.empty(shape, np.uint8)
        with tempfile.NamedTemporaryFile(dir=work, delete=False) as file:
            # A sparse file would kill the process, not raise, when the disk fills up later.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return np.memmap(file.name, np.uint8, "r+", shape=shape)

    return allocate


def _build(root: Path, index: Path, source: Source, data: Parts, work: Path) -> None:
    """Divide the images and write them, then the index entry that points to them."""
    identity = {part: (images.labels, images.digests) for part, images in data.parts.items()}
    plan = assign(identity, data.classes)
    divided = {
        split: (identity[part][0][rows], identity[part][1][rows])
        for split, (part, rows) in plan.items()
    }
    _require_one_size(data.parts)
    scaled_to = next(filter(None, (images.scaled_to for images in data.parts.values())), None)
    mark = fingerprint(data.classes, divided, scaled_to)
    counts = {split: len(rows) for split, (_, rows) in plan.items()}
    if source.official and scaled_to is None:
        _check_published(source, data.name, mark, counts)
    ready = work / "ready"
    ready.mkdir()
    _write_arrays(ready, data.parts, plan)
    meta = {"format": _FORMAT, "classes": data.classes, "counts": counts}
    (ready / "meta.json").write_text(json.dumps(meta))
    target = root / "datasets" / mark
    if _read(target) is None:
        shutil.rmtree(target, ignore_errors=True)
        os.replace(ready, target)
    name = "cifar10" if mark == CIFAR10_FINGERPRINT else data.name or source.name
    skipped = [problem for decoded in data.parts.values() for problem in decoded.skipped]
    entry = {"fingerprint": mark, "name": name, "skipped": skipped, "source": source.location}
    entry["copies"] = _copies(divided)
    (work / "entry.json").write_text(json.dumps(entry))
    index.parent.mkdir(exist_ok=True)
    os.replace(work / "entry.json", index)


def _copies(divided: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, int]:
    """Count the images of each split that are in one before it too, pixel by pixel."""
    found, known = {}, set()
    for split in SPLITS:
        digests = [row.tobytes() for row in divided[split][1]]
        found[split] = sum(one in known for one in digests)
        known.update(digests)
    return found


def _require_one_size(parts: dict[str, Decoded]) -> None:
    """Raise EdgecifarError where parts, each of one size, are of several."""
    sizes = {part: images.images.shape[1:3] for part, images in parts.items()}
    if len(set(sizes.values())) > 1:
        told = " and ".join(f"{part} {width}x{height}" for part, (height, width) in sizes.items())
        raise EdgecifarError(
            f"mixed image sizes ({told}): scale all with --image-size N (or HxW), such as "
            f"--image-size {min(min(size) for size in sizes.values())}"
        )


def _check_published(source: Source, name: str, mark: str, counts: dict[str, int]) -> None:
    """Compare an archive that holds as many images as CIFAR-10 with what was published."""
    full = name == "cifar10" and sum(counts.values()) == _CIFAR10_IMAGES
    if full and mark != CIFAR10_FINGERPRINT:
        raise EdgecifarError(
            f"{source.location} is altered, its images or labels are not CIFAR-10's: "
            "download it again with `edgecifar data fetch`"
        )


def _write_arrays(
    folder: Path, parts: dict[str, Decoded], plan: dict[str, tuple[str, np.ndarray]]
) -> None:
    count = sum(len(rows) for _, rows in plan.values())
    shape = (count, *next(iter(parts.values())).images.shape[1:])
    at_once = max(1, _BYTES_AT_ONCE // prod(shape[1:]))
    with open(folder / "images.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part, rows in (plan[split] for split in SPLITS):
            for start in range(0, len(rows), at_once):
                file.write(parts[part].images[rows[start : start + at_once]].data)
    labels = [parts[part].labels[rows] for part, rows in (plan[split] for split in SPLITS)]
    write_array(folder / "labels.npy", np.concatenate(labels))


def _remove_stale(folder: Path) -> None:
    """Remove what builders that were killed left behind, once it is a day old."""
    for left in folder.glob(".building-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
