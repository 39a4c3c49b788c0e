import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data.pack import stratified


@pytest.mark.parametrize(
    ("counts", "limit", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([50, 30, 20], 100, [50, 30, 20]),
        ([1, 1, 98], 10, [1, 1, 8]),
        ([1, 1, 98], 3, [1, 1, 1]),
        ([33, 33, 34], 10, [3, 3, 4]),
        ([5, 0, 5], 4, [2, 0, 2]),
    ],
)
def test_each_class_has_its_share(counts, limit, expected):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], counts))
    rows = stratified(labels, 3, limit)
    assert np.bincount(labels[rows], minlength=3).tolist() == expected
    assert (np.diff(rows) > 0).all()


def test_no_limit():
    assert stratified(np.zeros(7, int), 1, None).tolist() == list(range(7))


def test_too_few_for_the_classes():
    with pytest.raises(EdgecifarError, match="2 images can't show 3 classes: pack at least 3"):
        stratified(np.arange(9) % 3, 3, 2)
