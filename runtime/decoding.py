"""Many image files into one array, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import Entry, EntryReader
from edgecifar.runtime.images import ImageError, decoded, resize
from edgecifar.runtime.splits import DIGEST_BYTES, digest, digest_all

Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Gives an uninitialised uint8 array of a shape; the caller chooses memory or disk."""

Progress = Callable[[int, int], None]
"""Called with how many images are done, and of how many."""

_CHUNK = 128  # Images per task: small enough for a smooth progress bar, large enough for threads.
_TASKS = 8  # a core at least: a few photos take as long as many thumbnails


@dataclass(frozen=True)
class Decoded:
    """Labelled images in memory or memory-mapped.

    `images` uint8 [N, H, W, 3]; `labels` int64 [N]; `digests` uint8 [N, 32], of the pixels before
    any scaling; `scaled_to` (height, width) if scaling changed an image; `skipped` says what was
    wrong with each file that was left out.
    """

    images: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    scaled_to: tuple[int, int] | None = None
    skipped: tuple[str, ...] = ()


def allocate_in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialised uint8 array in memory."""
    return np.empty(shape, np.uint8)


def decode(
    entries: Sequence[Entry],
    classes: Sequence[str],
    *,
    image_size: tuple[int, int] | None = None,
    skip_corrupt: bool = False,
    mend: str = "replace or remove it",
    allocate: Allocate = allocate_in_memory,
    progress: Progress | None = None,
) -> Decoded:
    """Decode the entries in their order; labels are indices into `classes`.

    `image_size` is (height, width); without it all images must have the size of the first.
    Raises EdgecifarError naming the first image that is unreadable (left out and reported with
    `skip_corrupt`), with `mend`, what its user can do about it, or the first of another size.
    """
    with EntryReader() as reader:
        reader.open_zips(entries)
        batch = _Batch(entries, reader, image_size, None if skip_corrupt else mend)
        images = batch.decode_all(allocate, progress)
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of[entry.label] for entry in entries], np.int64)
    digests, scaled_to = batch.digests, image_size if batch.scaled else None
    skipped = tuple(batch.problems[index] for index in sorted(batch.problems))
    if skipped:
        kept = np.setdiff1d(np.arange(len(entries)), list(batch.problems))
        images, labels, digests = _close_gaps(images, kept), labels[kept], digests[kept]
    return Decoded(images, labels, digests, scaled_to, skipped)


def scaled(
    images: np.ndarray,
    labels: np.ndarray,
    image_size: tuple[int, int] | None = None,
    *,
    allocate: Allocate = allocate_in_memory,
) -> Decoded:
    """Return images that are in memory already, each scaled to (height, width) if given."""
    identity = digest_all(images)
    if image_size is None or images.shape[1:3] == tuple(image_size):
        return Decoded(images, labels, identity)
    resized = allocate((len(images), *image_size, 3))
    for index, image in enumerate(images):
        resized[index] = resize(image, *image_size)
    return Decoded(resized, labels, identity, image_size)


class _Batch:
    """The state that the decoding threads share; each writes its own rows."""

    def __init__(self, entries, reader, image_size, mend):
        self.entries: Sequence[Entry] = entries
        self.reader: EntryReader = reader
        self.image_size: tuple[int, int] | None = image_size
        self.mend: str | None = mend  # None: what is corrupt is left out
        self.digests: np.ndarray = np.zeros((len(entries), DIGEST_BYTES), np.uint8)
        self.problems: dict[int, str] = {}
        self.scaled: bool = False
        self.model: str = ""

    def decode_all(self, allocate: Allocate, progress: Progress | None) -> np.ndarray:
        images = allocate((len(self.entries), *self._first_shape()))
        total, cores = len(self.entries), os.cpu_count() or 1
        chunk = max(1, min(_CHUNK, total // (_TASKS * cores)))
        chunks = [range(start, min(start + chunk, total)) for start in range(0, total, chunk)]
        pool = ThreadPoolExecutor(cores)
        try:
            for done in pool.map(lambda rows: self._decode_chunk(images, rows), chunks):
                if progress:
                    progress(done, total)
        finally:
            pool.shutdown(cancel_futures=True)
        return images

    def _first_shape(self) -> tuple[int, int, int]:
        for index, entry in enumerate(self.entries):
            image = self._read(index)
            if image is not None:
                self.model = entry.name
                return image.shape
        raise EdgecifarError(
            f"none of {len(self.entries)} images can be read "
            f"({self.problems[0]}): check that the files are images"
        )

    def _decode_chunk(self, images: np.ndarray, rows: range) -> int:
        for index in rows:
            image = self._read(index)
            if image is None:
                continue
            if image.shape != images.shape[1:]:
                raise EdgecifarError(self._mixed(index, image.shape, images.shape[1:]))
            images[index] = image
        return rows.stop

    def _read(self, index: int) -> np.ndarray | None:
        entry = self.entries[index]
        try:
            with decoded(self.reader.read(entry), name=entry.name) as image:
                self.digests[index] = digest(image)
                if self.image_size is None or image.shape[:2] == self.image_size:
                    return image
                self.scaled = True
                return resize(image, *self.image_size)
        except ImageError as error:
            if self.mend is not None:
                raise EdgecifarError(f"{error.problem}: {self.mend}") from None
            self.problems[index] = error.problem
            return None

    def _mixed(self, index: int, shape: tuple[int, ...], model: tuple[int, ...]) -> str:
        return (
            f"mixed image sizes: {self.entries[index].name} is {shape[1]}x{shape[0]} and "
            f"{self.model} {model[1]}x{model[0]}: scale all with --image-size N (or HxW)"
        )


def _close_gaps(images: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Move the kept rows together in place: the array may be larger than memory."""
    for target, source in enumerate(kept):
        if target != source:
            images[target] = images[source]
    return images[: len(kept)]
