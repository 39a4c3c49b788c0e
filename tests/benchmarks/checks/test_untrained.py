import numpy as np
import pytest
from click.testing import CliRunner

from edgecifar.benchmarks.checks.untrained import main, write_untrained
from edgecifar.runtime import Classifier, modelfile
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import zoo


def test_an_untrained_file_runs(tmp_path):
    path = write_untrained("nano", tmp_path / "nano.tflite", image_size=48, classes=3, kind="int8")
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    probabilities = Classifier(path).predict(noise).probabilities
    assert probabilities.shape == (2, 3)


def test_it_has_the_size_of_a_trained_one(tmp_path):
    path = write_untrained("nano", tmp_path / "nano.tflite", kind="int8")
    trained = zoo.find("nano").info["int8"]["payload_bytes"]
    # The one that ships was fine-tuned for int8, which takes some bytes more: 2.7 % were measured.
    assert len(modelfile.read(path).payload) == pytest.approx(trained, rel=0.04)


def test_the_command_names_its_file_and_overwrites_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["resnet8"])
    assert told.exit_code == 0, told.output
    assert "wrote resnet8-32-float32.tflite" in told.output
    before = (tmp_path / "resnet8-32-float32.tflite").read_bytes()
    again = CliRunner().invoke(main, ["resnet8"])
    assert again.exit_code == 1
    assert "give another --out" in again.output
    assert (tmp_path / "resnet8-32-float32.tflite").read_bytes() == before


def test_what_is_unknown_is_named(tmp_path):
    with pytest.raises(EdgecifarError, match="unknown architecture 'resnet9'"):
        write_untrained("resnet9", tmp_path / "it.tflite")
    assert CliRunner().invoke(main, ["resnet8", "--format", "int9"]).exit_code == 2
