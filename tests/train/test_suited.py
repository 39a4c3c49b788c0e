"""Settings that follow from the number and the size of the images, and what is said of them."""

import dataclasses

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.adoption import fine_tuning_recipe
from edgecifar.train.commands import suited
from edgecifar.train.data import Split
from edgecifar.train.loop import require_batches
from edgecifar.train.parsing import override
from edgecifar.train.settings import Training

CROPS = "images of 192x96: crops by up to 12 pixels, unless you give augment.crop\n"
LARGE = "45,000 training images of 192x96: batches of 32 at a rate of up to 0.05, unless you give "


@pytest.fixture
def images_of(digits):
    """A function of a count and (height, width) that returns a data set with such images."""

    def images_of(count, size):
        labels = np.resize(digits.train.labels, count)
        train = Split(np.broadcast_to(np.uint8(120), (count, *size, 3)), labels)
        return dataclasses.replace(digits, train=train)

    return images_of


@pytest.mark.parametrize(
    ("changes", "found", "told"),
    [
        ({}, (32, 0.05, 12), f"{CROPS}{LARGE}batch_size and learning_rate\n"),
        ({"batch_size": 100}, (100, 0.4, 12), CROPS),
        ({"augment.crop": 1, "batch_size": 100}, (100, 0.4, 1), ""),
        ({"augment.crop": 0, "learning_rate": 0.2}, (32, 0.2, 0), "45,000 training images of"),
    ],
)
def test_large_images_bring_settings_that_are_told(images_of, capsys, changes, found, told):
    dataset = images_of(45_000, (96, 192))
    settings = suited(override(Training(), changes), changes, dataset)
    assert found == (settings.batch_size, settings.learning_rate, settings.augment.crop)
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert bool(said) == bool(told)


def test_images_of_cifar10_bring_none(images_of, capsys):
    assert suited(Training(), {}, images_of(45_000, (32, 32))) == Training()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("count", "most"), [(6, "1"), (20, "5 or less")])
def test_the_fewest_images_fill_a_batch(images_of, count, most):
    dataset = images_of(count, (32, 32))
    require_batches(dataset, suited(Training(), {}, dataset))
    with pytest.raises(EdgecifarError, match=f"fill a batch of 64: set batch_size to {most}$"):
        require_batches(dataset, Training(batch_size=64))


def test_what_is_adopted_is_fine_tuned_in_batches_that_fit_into_memory(images_of):
    assert fine_tuning_recipe(images_of(45_000, (32, 32))).batch_size == 256
    assert fine_tuning_recipe(images_of(45_000, (224, 224))).batch_size == 16
