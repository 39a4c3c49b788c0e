import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.macs import count_macs


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet8", 78_666),  # the reference model's
        ("baseline", 356_810),  # the seed report's Table 1
    ],
)
def test_parameter_counts(name, parameters):
    assert models.find(name).build((32, 32), 10).count_params() == parameters


def test_macs_are_those_published_for_the_reference():
    assert count_macs(models.find("resnet8").build((32, 32), 10)) == 12_501_632


@pytest.mark.parametrize("name", models.names())
def test_other_sizes_and_class_counts(name):
    model = models.find(name).build((40, 48), 7)
    images = np.random.default_rng(0).normal(size=(2, 40, 48, 3)).astype(np.float32)
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        EdgecifarError, match="unknown architecture 'resnet9': did you mean resnet8"
    ):
        models.find("resnet9")


def test_the_catalogue_lists_every_architecture():
    rows = models.catalogue()
    assert [row["name"] for row in rows] == list(models.names())
    assert all(row["summary"] and row["macs"] > 1e6 for row in rows)
