import numpy as np
import pytest

from edgecifar.train.data.dataset import Dataset, Split
from edgecifar.train.data.preview import choose, draw


def dataset(class_count, height, width):
    """Ten images a class; the pixels of a class have one value of their own."""
    labels = np.tile(np.arange(class_count), 10)
    images = np.empty((len(labels), height, width, 3), np.uint8)
    images[:] = (labels * 2 + 1).astype(np.uint8)[:, None, None, None]
    split = Split(images, labels)
    names = tuple(f"class {label}" for label in range(class_count))
    return Dataset("drawn", names, split, split, split, "0", "a test")


def test_rows_are_of_their_class():
    split = dataset(4, 8, 8).train
    chosen = choose(split, 4, 6, seed=0)
    assert [len(set(rows)) for rows in chosen] == [6] * 4
    assert all((split.labels[rows] == label).all() for label, rows in enumerate(chosen))


def test_small_classes_show_what_they_have():
    assert [len(rows) for rows in choose(dataset(3, 8, 8).train, 3, 50, seed=0)] == [10] * 3


@pytest.mark.parametrize(
    ("class_count", "size", "rows"), [(2, (8, 8), 2), (10, (32, 32), 10), (100, (40, 20), 25)]
)
def test_grid_holds_every_class(class_count, size, rows):
    data = dataset(class_count, *size)
    picture = draw(data, choose(data.train, class_count, 10, seed=0), 10)
    assert picture.height == rows * 68 + 4
    values, counts = np.unique(np.asarray(picture)[..., 0], return_counts=True)
    area = 10 * 64 * 64 * size[1] // size[0]
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert all(found[label * 2 + 1] >= area for label in range(class_count))
