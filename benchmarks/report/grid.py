"""The training images that a page shows: a row of random ones for each class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.benchmarks.report.runs import data_uri

if TYPE_CHECKING:
    from edgecifar.train.data import Dataset

_MOST = 20  # classes shown
_TILE = 96  # pixels of an image's longer side, at most


@dataclass(frozen=True)
class SampleRow:
    """A class, and images of it beside each other as one data URI."""

    name: str
    count: int
    image: str


def sample_rows(dataset: "Dataset", *, per_class: int = 10) -> tuple[SampleRow, ...]:
    """Choose random training images of each class; the same data give the same images."""
    from edgecifar.train.data.preview import choose

    chosen = choose(dataset.train, len(dataset.classes), per_class, seed=0)
    return tuple(
        SampleRow(
            name,
            len(rows),
            data_uri(_beside(dataset.train.images[np.sort(rows)]), (_TILE * len(rows), _TILE)),
        )
        for name, rows in list(zip(dataset.classes, chosen, strict=True))[:_MOST]
        if len(rows)
    )


def _beside(images: np.ndarray) -> np.ndarray:
    """Set images [n, height, width, 3] beside each other, RGBA with clear gaps between them."""
    opaque = np.pad(images, ((0, 0),) * 3 + ((0, 1),), constant_values=255)
    gap = max(1, images.shape[2] // 16)
    spaced = np.pad(opaque, ((0, 0), (0, 0), (0, gap), (0, 0)))
    return np.concatenate(list(spaced), axis=1)[:, :-gap]
