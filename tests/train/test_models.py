import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import models
from edgecifar.train.commands import models as command
from edgecifar.train.macs import count_macs
from edgecifar.train.zoo.listing import architecture_rows

LARGE = ("resnet50", "efficientnetv2b0", "efficientnet_lite0")


@pytest.fixture(scope="module")
def catalogue():
    return {row["name"]: row for row in architecture_rows()}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet8", 78_666),  # the reference model's
        ("baseline", 356_810),  # the seed report's Table 1
        ("improved", 324_394),
        ("advanced", 1_368_778),  # the seed report's, as the next two
        ("efficientnetv2b0", 6_580_314),
        ("resnet50", 23_587_712 + 2048 * 512 + 512 + 512 * 10 + 10),  # published, with our head
        ("efficientnet_lite0", 3_425_834),
    ],
)
def test_parameter_counts(catalogue, name, parameters):
    assert catalogue[name]["parameters"] == parameters


def test_macs_are_those_published_for_the_reference():
    assert count_macs(models.find("resnet8").build((32, 32), 10)) == 12_501_632


@pytest.mark.parametrize("name", sorted({*models.names()} - {*LARGE}))
def test_other_sizes_and_class_counts(name):
    model = models.find(name).build((40, 48), 7)
    images = np.random.default_rng(0).normal(size=(2, 40, 48, 3)).astype(np.float32)
    probabilities = model(images).numpy()
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        EdgecifarError, match="unknown architecture 'resnet9': did you mean resnet8"
    ):
        models.find("resnet9")


def test_the_catalogue_lists_every_architecture(catalogue):
    assert tuple(catalogue) == models.names()
    assert all(row["summary"] and row["macs"] > 1e6 for row in catalogue.values())
    enlarged = {name for name, row in catalogue.items() if row["backbone_size"] == 96}
    assert enlarged == {*LARGE}


def test_the_catalogue_builds_only_what_is_asked():
    assert [row["name"] for row in architecture_rows(["resnet8"])] == ["resnet8"]


def test_the_catalogue_as_json():
    result = CliRunner().invoke(command, ["baseline", "resnet8", "--json"])
    rows = json.loads(result.output)["architectures"]
    assert [(row["name"], row["parameters"]) for row in rows] == [
        ("baseline", 356_810),
        ("resnet8", 78_666),
    ]
    assert rows[1]["macs"] == 12_501_632
    assert rows[1]["input"] == [32, 32, 3]


def test_branches_that_are_folded_away_are_not_counted():
    plain, branched = architecture_rows(["nano", "nano-rep"])
    assert plain["macs"] == branched["macs"]
    assert plain["parameters"] >= branched["parameters"]
