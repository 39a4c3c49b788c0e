"""A picture of the data: random images of each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.train.data.dataset import Dataset, Split
from edgecifar.train.files import write_whole

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_TILE = 64  # Pixels of a tile's longer side.
_GAP = 4
_ROWS = 25  # More classes than this go into further blocks to the right.
_FONT_SIZE = 16
_PAPER, _INK = "white", "black"


def preview(dataset: Dataset, path: Path, *, per_class: int = 10, seed: int = 0) -> None:
    """Draw a row of random training images for each class into a PNG, replaced whole.

    The same data and seed give the same picture.
    """
    chosen = choose(dataset.train, len(dataset.classes), per_class, seed)
    picture = draw(dataset, chosen, per_class)
    write_whole(path, lambda partial: picture.save(partial, format="PNG"))


def choose(split: Split, class_count: int, per_class: int, seed: int) -> list[np.ndarray]:
    """Return up to `per_class` random rows of each class."""
    random = np.random.default_rng(seed)
    rows = (np.flatnonzero(split.labels == label) for label in range(class_count))
    return [random.permutation(found)[:per_class] for found in rows]


def draw(dataset: Dataset, chosen: list[np.ndarray], per_class: int) -> PillowImage.Image:
    """Return the grid of the chosen training images, with class names on the left of each row."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = _tile_size(*dataset.image_size)
    font = ImageFont.load_default(_FONT_SIZE)
    margin = int(max(font.getlength(name) for name in dataset.classes)) + 3 * _GAP
    block = margin + per_class * (width + _GAP)
    rows = min(len(chosen), _ROWS)
    size = (-(-len(chosen) // _ROWS) * block + _GAP, rows * (height + _GAP) + _GAP)
    picture = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(picture)
    for index, (name, found) in enumerate(zip(dataset.classes, chosen, strict=True)):
        column, row = divmod(index, _ROWS)
        left, top = column * block + _GAP, row * (height + _GAP) + _GAP
        pen.text((left, top + height // 2), name, _INK, font, anchor="lm")
        for place, image in enumerate(dataset.train.images[np.sort(found)]):
            tile = Image.fromarray(image).resize((width, height), _filter(image, height))
            picture.paste(tile, (left + margin + place * (width + _GAP), top))
    return picture


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """Scale a size so that its longer side is a tile's."""
    scale = _TILE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _filter(image: np.ndarray, height: int) -> PillowImage.Resampling:
    """Enlarged pixels stay squares: the picture shows what the net sees."""
    from PIL import Image

    return Image.Resampling.NEAREST if image.shape[0] < height else Image.Resampling.LANCZOS
