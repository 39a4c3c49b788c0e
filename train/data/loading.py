"""Finding the data, and having them ready."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data import fetch
from edgecifar.train.data.cache import cached
from edgecifar.train.data.dataset import Dataset
from edgecifar.train.data.progress import reporting
from edgecifar.train.data.sources import Source, digits, recognise

_SHOWN = 10  # of what was skipped
VARIABLE = "EDGECIFAR_DATA"
"""Environment variable with the path of the data to use when none is given."""


def load(
    data: str | Path | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    skip_corrupt: bool = False,
    download: bool = True,
) -> Dataset:
    """Return a data set, decoded once and memory-mapped from then on.

    `data` is a path, "cifar10", "cifar100" or "digits". Without it: $EDGECIFAR_DATA, a CIFAR-10
    archive in the cache folder, its download (if `download`), scikit-learn's digits, whichever
    is there first. `image_size` (one number, or height and width) scales every image.
    Raises EdgecifarError naming what is wrong with the data.
    """
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    source = find(data, download=download)
    with reporting("Decoding images") as report:
        dataset = cached(source, image_size, skip_corrupt, report)
    if dataset.skipped:
        click.echo(_skipped_line(dataset.skipped), err=True)
    if any(dataset.copies.values()):
        click.echo(_copies_line(dataset), err=True)
    return dataset


def find(data: str | Path | None = None, *, download: bool = True) -> Source:
    """Return the source that `load` would read; downloads it if need be."""
    if data is not None:
        return _named(data, download)
    if chosen := os.environ.get(VARIABLE):
        try:
            return _named(chosen, download)
        except EdgecifarError as error:
            raise EdgecifarError(f"{error} (named by {VARIABLE})") from None
    try:
        return recognise(fetch.ensure(fetch.ARCHIVES["cifar10"], download=download))
    except fetch.NoDownloadError as error:
        click.echo(
            f"No CIFAR-10 here, and {error.problem}: taking scikit-learn's digits instead "
            f"(--data or {VARIABLE} name other images).",
            err=True,
        )
        return digits()


def _named(data: str | Path, download: bool) -> Source:
    if not Path(data).expanduser().exists():
        if str(data) == "digits":
            return digits()
        if archive := fetch.ARCHIVES.get(str(data)):
            return recognise(fetch.ensure(archive, download=download))
    return recognise(Path(data))


def _copies_line(dataset: Dataset) -> str:
    of = {"validation": "training", "test": "training or validation"}
    told = " and ".join(
        f"{count:,} of {len(dataset.splits[split]):,} {split} images are {of[split]} images too"
        for split, count in dataset.copies.items()
        if count
    )
    return f"{told}: figures on them flatter, remove the copies"


def _skipped_line(skipped: tuple[str, ...]) -> str:
    images = "image was" if len(skipped) == 1 else "images were"
    more = len(skipped) - _SHOWN
    rest = f"; and {more} more, which `edgecifar data info --json` lists" if more > 0 else ""
    return f"{len(skipped)} corrupt {images} skipped: {'; '.join(skipped[:_SHOWN])}{rest}"
