"""The folder of a finished recipe, of the very one whose model ships, from what is there."""

import shutil
from pathlib import Path

import pytest

from edgecifar.benchmarks import recipe as recipes
from edgecifar.runtime import modelfile
from edgecifar.runtime.results import seal
from edgecifar.train import zoo
from edgecifar.train.files import read_json, write_json
from edgecifar.train.parsing import completed
from edgecifar.train.run import open_run
from edgecifar.train.settings import Training

ROOT = Path(__file__).parents[3]


@pytest.fixture
def recipe(tmp_path):
    """The folder that `edgecifar run zoo-resnet8` leaves."""
    return _finished(tmp_path / "zoo-resnet8")


@pytest.fixture
def finished_with(tmp_path):
    """A function of a seed; returns the folder that the recipe leaves with it."""

    def finished(seed):
        folder = _finished(tmp_path / f"zoo-resnet8-seed{seed}")
        path = folder / "resnet8" / "run.json"
        write_json(path, read_json(path) | {"seed": seed})
        for name in ("resnet8", "resnet8-qat"):  # as today's run has it, in a folder of that name
            path = folder / name / "run.json"
            info = read_json(path)
            named = {"recipe": completed(Training, info["recipe"])}
            named["dataset"] = info["dataset"] | {"name": "my-cifar10"}
            write_json(path, info | named)
        return folder

    return finished


def _finished(folder):
    info = zoo.find("resnet8").info
    for which, name in (("float", "resnet8"), ("int8", "resnet8-qat")):
        write_json(folder / name / "run.json", info[which]["run"])
        write_json(folder / name / "metrics.json", info[which]["metrics"])
        shutil.copy(ROOT / "train/zoo/resnet8.h5", folder / name / "model.h5")
    exports = folder / "resnet8-qat" / "exports"
    exports.mkdir()
    file = exports / "resnet8-qat-int8.tflite"
    shutil.copy(ROOT / "runtime/models/resnet8.tflite", file)
    model = modelfile.read(file)
    modelfile.append(file, model.metadata | {"name": "resnet8-qat-int8"}, model.labels)
    bench = read_json(ROOT / "benchmarks/results/shipped.json")
    made = {name: open_run(folder / name).digest for name in ("resnet8", "resnet8-qat")}
    asked = recipes.read("zoo-resnet8").as_json()
    write_json(folder / "bench.json", seal(bench | {"runs": made, "recipe": asked}))
    return folder
