import shutil

import pytest
from click.testing import CliRunner

from edgecifar.runtime import Classifier, modelfile, shipped
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture
def models(monkeypatch, tmp_path, described):
    """A runtime that ships a model called `ants`; the working folder is empty."""
    (tmp_path / "models").mkdir()
    (tmp_path / "work").mkdir()
    shutil.copy(described / "int8.tflite", tmp_path / "models" / "ants.tflite")
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "models"


def test_a_name_stands_for_the_file_that_ships(models):
    assert shipped.names() == ("ants",)
    assert shipped.locate("ants") == shipped.locate("ants.tflite") == models / "ants.tflite"
    assert Classifier("ants").model.path == models / "ants.tflite"


def test_a_file_of_that_name_wins_and_a_folder_does_not(models, described):
    (models.parent / "work" / "ants").mkdir()
    assert shipped.locate("ants") == models / "ants.tflite"
    (models.parent / "work" / "ants").rmdir()
    for name in ("ants", "ants.tflite"):
        shutil.copy(described / "float32.tflite", name)
        assert Classifier(name).model.sha256 == modelfile.read(described / "float32.tflite").sha256


def test_a_folder_stays_what_it_is(models):
    with pytest.raises(EdgecifarError, match="Is a directory: give a model file"):
        Classifier(models)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["info", "ants"], "ants.tflite"), (["bench", "ants", "--rounds", "2"], "median")],
)
def test_commands_take_names(models, arguments, told):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert told in result.output


@pytest.mark.parametrize("path", ["bees", "bees.tflite", "ants.onnx", "folder/ants"])
def test_an_unknown_name_is_answered_with_those_there_are(models, path):
    with pytest.raises(EdgecifarError, match=rf"^{path}: .*name a model that ships \(ants\)$"):
        Classifier(path)


def test_an_empty_name_is_no_folder():
    with pytest.raises(EdgecifarError, match="an empty path: give a model file"):
        Classifier("")


def test_what_ships_is_whole():
    assert "resnet8" in shipped.names()
    for name in shipped.names():
        model = modelfile.read(shipped.locate(name))
        assert (model.has_checksum, model.name) == (True, name)
        assert model.metadata["accuracy"]["this"]["split"] == "test"
