"""Shipping a finished recipe."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgecifar.benchmarks.documents.cards import card
from edgecifar.benchmarks.documents.ship import Limits, stated_limits
from edgecifar.benchmarks.documents.ship import ship as ship_within
from edgecifar.benchmarks.finished import Finished
from edgecifar.benchmarks.retrained import against_shipped
from edgecifar.runtime import modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import pack_classes, seal
from edgecifar.train import zoo
from edgecifar.train.files import read_json, write_json

ROOT = Path(__file__).parents[3]
ship = partial(ship_within, limits={})


@pytest.fixture
def places(tmp_path):
    """Where int8 files go, and where the rest."""
    return tmp_path / "models", tmp_path / "zoo"


def test_what_ships_is_what_the_recipe_made(recipe, places):
    models, folder = places
    remark = zoo.find("resnet8").info.get("remark")
    entry = ship(recipe, [], models, folder, remark=remark)
    assert json.loads(entry.read_text()) == zoo.find("resnet8").info
    (model,) = zoo.entries(folder)
    assert (model.name, model.info["recipe"]) == ("resnet8", "zoo-resnet8")
    assert (folder / "resnet8.h5").read_bytes() == (ROOT / "train/zoo/resnet8.h5").read_bytes()
    file = modelfile.read(models / "resnet8.tflite")
    assert file.sha256 == model.info["int8"]["sha256"]
    assert file.name == "resnet8"
    assert file.metadata["accuracy"]["this"] == {
        "split": "test",
        **{key: model.test("int8")[key] for key in ("top1", "low", "high", "n")},
    }


def test_a_remark_stands_on_the_card(recipe, places):
    entry = ship(recipe, [], *places, remark="It was cold.")
    assert "\n\nIt was cold.\n\n- float: " in card(zoo.read(entry), {"models": []})


def test_a_recipe_carried_out_again_is_compared_with_what_ships(recipe, tmp_path):
    told = against_shipped("zoo-resnet8", recipe)
    assert told == (
        "int8 88.96 %, within the interval of the resnet8 that ships: 88.96 (88.33 to 89.56)"
    )
    result = read_json(recipe / "bench.json")
    for row in result["models"]:
        row["accuracy"]["predicted"] = pack_classes(np.zeros(10_000, int), 10)  # all airplanes
    write_json(recipe / "bench.json", seal(result))
    assert "int8 10.00 %, outside the interval" in against_shipped("zoo-resnet8", recipe)
    for run in ("resnet8", "resnet8-qat"):
        path = recipe / run / "run.json"
        write_json(path, read_json(path) | {"dataset": {"name": "other", "fingerprint": "0"}})
    assert against_shipped("zoo-resnet8", recipe) is None
    assert against_shipped("demo", tmp_path) is None


def test_repeats_are_told_in_the_entry(recipe, places, finished_with):
    (repeat,) = read_json(ship(recipe, [finished_with(seed=1)], *places))["repeats"]
    assert repeat["seed"] == 1


def test_what_is_no_repeat_ships_nothing(recipe, places, finished_with):
    with pytest.raises(EdgecifarError, match="has the same seed"):
        ship(recipe, [finished_with(seed=0)], *places)
    assert not any(place.exists() for place in places)


def test_what_isn_t_finished_does_not_ship(recipe, places):
    metrics = recipe / "resnet8" / "metrics.json"
    whole = read_json(metrics)
    write_json(metrics, {"validation": whole["validation"]})
    with pytest.raises(EdgecifarError, match="no figures of the test images"):
        ship(recipe, [], *places)
    write_json(metrics, whole)
    shutil.copytree(recipe / "resnet8-qat", recipe / "again")
    bench = read_json(recipe / "bench.json")
    write_json(recipe / "bench.json", seal(bench | {"runs": bench["runs"] | {"again": "0"}}))
    with pytest.raises(EdgecifarError, match="2 quantized runs, not one"):
        ship(recipe, [], *places)
    assert not any(place.exists() for place in places)
    write_json(recipe / "bench.json", bench)
    assert ship(recipe, [], *places).exists()  # what else lies there is no matter


def test_a_recipe_that_has_changed_is_not_named_as_the_origin(recipe, places, tmp_path):
    bench = read_json(recipe / "bench.json")
    other = bench["recipe"] | {"seed": 5}
    write_json(recipe / "bench.json", seal(bench | {"recipe": other}))
    with pytest.raises(EdgecifarError, match="was not made by the recipe zoo-resnet8 as it is now"):
        ship(recipe, [], *places)
    mine = recipe.rename(tmp_path / "mine")
    assert read_json(ship(mine, [], *places))["recipe"] is None


def test_a_file_that_was_not_measured_does_not_ship(recipe, places, described):
    exported = recipe / "resnet8-qat" / "exports" / "resnet8-qat-int8.tflite"
    shutil.copy(described, exported)
    with pytest.raises(EdgecifarError, match="has not measured"):
        ship(recipe, [], *places)


@pytest.fixture
def described(tmp_path):
    """Another whole model file: the same but for an unused byte of its payload."""
    path = tmp_path / "other.tflite"
    model = modelfile.read(ROOT / "runtime/models/resnet8.tflite")
    path.write_bytes(model.payload + bytes(16))
    modelfile.append(path, {"name": "other"}, model.labels)
    return path


def test_limits_are_those_that_the_results_state():
    stated = stated_limits(ROOT / "benchmarks" / "results")
    assert stated == {
        "nano": Limits(98_496, 90.3),  # MLPerf Tiny's ResNet-8, int8
        "small": Limits(512_024, 94.3),  # MLPerf Tiny's large ResNet-8, int8
        "base": Limits(pytest.approx(2_200_000, rel=0.01), 95.4),  # whose bytes another file states
    }


def test_a_file_over_its_limits_does_not_ship(recipe, places, monkeypatch):
    size = zoo.find("resnet8").info["int8"]["payload_bytes"]
    limits = {"resnet8": Limits(size - 1, 0.0)}
    message = rf"{size:,} bytes without metadata.*have {size - 1:,}"
    for name in ("resnet8", "resnet8-rep"):  # options don't lift the limits
        monkeypatch.setattr(Finished, "name", name)
        with pytest.raises(EdgecifarError, match=message):
            ship(recipe, [], *places, limits=limits)
    assert not any(place.exists() for place in places)


def test_a_file_below_its_goal_ships_only_if_that_is_asked_for(recipe, places):
    limits = {"resnet8": Limits(96_448, 99.0)}
    with pytest.raises(
        EdgecifarError, match=r"reaches 8\d\.\d+ %, less than the 99\.0 %.*--below-"
    ):
        ship(recipe, [], *places, limits=limits)
    assert not any(place.exists() for place in places)
    assert ship(recipe, [], *places, limits=limits, below_goal=True).exists()


def test_an_int8_file_of_another_model_does_not_ship(recipe, places):
    path = recipe / "resnet8-qat" / "run.json"
    write_json(path, read_json(path) | {"parent_model": "0" * 64})
    with pytest.raises(EdgecifarError, match="was made of another model than"):
        ship(recipe, [], *places)
