"""A data set with its three splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, H, W, 3], 0..255 and possibly memory-mapped; labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Images divided once and for all into training, validation and test.

    `fingerprint` (SHA-256, hex) depends on classes, pixels, labels and splits alone; `source` says
    where the images came from, `skipped` what was wrong with each image that was left out,
    `copies` how many images of each split are in one before it too.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    source: str
    skipped: tuple[str, ...] = ()
    copies: Mapping[str, int] = field(default_factory=dict)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.train.images.shape[1:3]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, in the order train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}
