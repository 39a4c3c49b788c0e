"""What is said of a run's figures."""

import numpy as np
import pytest

from edgecifar.train.evaluate import answer_metrics
from edgecifar.train.summary import told_of_chance

FEW = (
    "11 validation images, 10 of them `ok`, are too few to tell whether that is better than naming"
)


@pytest.mark.parametrize(
    ("supports", "right", "told"),
    [
        ((1, 10), 11, f"{FEW} the commonest class: add images"),  # perfect, which doesn't help
        ((1, 10), 3, f"{FEW} the commonest class: add images"),
        ((50, 50), 100, None),
        ((50, 50), 55, "the validation top-1 is not surely better than naming the commonest class: "
         "train on"),
    ],
)  # fmt: skip
def test_chance_is_told_from_too_few_images(supports, right, told):
    labels = np.repeat([0, 1], supports)
    predicted = np.where(np.arange(len(labels)) < right, labels, 1 - labels)
    figures = answer_metrics(predicted, labels, ("flawed", "ok"))
    assert told_of_chance(figures, "train on") == told
