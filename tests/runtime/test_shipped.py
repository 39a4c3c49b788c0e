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
    assert shipped.locate("ants") == models / "ants.tflite"
    assert Classifier("ants").model.path == models / "ants.tflite"


def test_a_file_of_that_name_wins_and_a_folder_does_not(models, described):
    (models.parent / "work" / "ants").mkdir()
    assert shipped.locate("ants") == models / "ants.tflite"
    (models.parent / "work" / "ants").rmdir()
    shutil.copy(described / "float32.tflite", "ants")
    assert Classifier("ants").model.sha256 == modelfile.read(described / "float32.tflite").sha256


@pytest.mark.parametrize("path", ["bees", "ants.tflite", "folder/ants"])
def test_what_is_no_name_stays_a_path(models, path):
    assert str(shipped.locate(path)) == path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["info", "ants"], "ants.tflite"), (["bench", "ants", "--rounds", "2"], "median")],
)
def test_commands_take_names(models, arguments, told):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert told in result.output


def test_an_unknown_name_is_answered_with_those_there_are(models):
    with pytest.raises(EdgecifarError, match=r"name a model that ships \(ants\)"):
        Classifier("bees")


def test_what_ships_is_whole():
    assert "resnet8" in shipped.names()
    for name in shipped.names():
        model = modelfile.read(shipped.locate(name))
        assert (model.has_checksum, model.name) == (True, name)
        assert model.metadata["accuracy"]["this"]["split"] == "test"
