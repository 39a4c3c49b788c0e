import json

import pytest

from edgecifar.runtime import Classifier, golden, modelfile, shipped, signing


@pytest.fixture
def model(described):
    path = described / "int8.tflite"
    classifier = Classifier(path)
    proof = golden.record(classifier, tolerance=0.0, elsewhere=0.1)
    modelfile.append(path, {**classifier.model.metadata, "golden": proof}, classifier.classes)
    return path


def test_a_good_file(edgecifar, model):
    result = edgecifar("verify", model)
    assert result.exit_code == 0
    assert "8 images: identical bit by bit" in result.stdout
    assert "signature       none" in result.stdout
    told = json.loads(edgecifar("verify", model, "--json").stdout)
    assert told["holds"]
    assert told["golden"]["same_labels"] == 8
    assert told["signed_by"] is None


def test_without_a_file_it_checks_the_model_that_ships(edgecifar):
    result = edgecifar("verify", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["file"] == str(shipped.default_model())
    assert told["holds"]


def test_a_named_interpreter(edgecifar, fails, model):
    told = json.loads(edgecifar("verify", model, "--backend", "litert", "--json").stdout)
    assert told["golden"]["computed_with"].startswith("litert ")
    assert "take one of litert, tflite-runtime" in fails("verify", model, "--backend", "other")


def test_the_help_names_the_tolerance_that_files_have(edgecifar):
    text = " ".join(edgecifar("verify", "--help").stdout.split())
    assert "1/256 for an int8 .tflite file in LiteRT" in text
    golden = modelfile.read(shipped.default_model()).metadata["golden"]
    assert golden["tolerance"] == 1 / 256


def test_kernels_that_compute_something_else(fails, edgecifar, model):
    metadata = modelfile.read(model).metadata
    metadata["golden"]["images"][0] += 1  # as if this machine's kernel were wrong for one image
    modelfile.append(model, metadata, None)
    assert "gives other outputs here" in fails("verify", model)
    assert "identical" not in edgecifar("verify", model).stdout


def test_files_that_prove_nothing(fails, bare, described, tmp_path):
    assert "nothing can be verified" in fails("verify", bare / "float32.tflite")
    assert "no golden outputs" in fails("verify", described / "float32.tflite")
    assert "no such model" in fails("verify", tmp_path / "none.tflite")


def test_signing(edgecifar, fails, model, tmp_path):
    pytest.importorskip("cryptography")
    key = tmp_path / "maker.pem"
    assert edgecifar("sign", model, "--new-key", key).exit_code == 0
    result = edgecifar("verify", model, "--key", tmp_path / "maker.pub.pem")
    assert result.exit_code == 0
    assert "valid, by the key " in result.stdout
    assert "not checked (--key)" in edgecifar("verify", model).stdout
    assert edgecifar("sign", "--new-key", tmp_path / "other.pem").exit_code == 0
    assert "wasn't made with" in fails("verify", model, "--key", tmp_path / "other.pub.pem")
    assert edgecifar("sign", model, "--key", tmp_path / "other.pem").exit_code == 0
    assert "wasn't made with" in fails("verify", model, "--key", tmp_path / "maker.pub.pem")


def test_signing_several_files(edgecifar, fails, described, tmp_path):
    pytest.importorskip("cryptography")
    files = [described / "int8.tflite", described / "float32.onnx"]
    result = edgecifar("sign", *files, "--new-key", tmp_path / "maker.pem")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 3
    for path in files:
        assert f"signed {path} with the key " in result.stdout
        signing.check(modelfile.read(path), tmp_path / "maker.pub.pem")
    missing = tmp_path / "none.tflite"
    assert str(missing) in fails("sign", files[0], missing, "--key", tmp_path / "maker.pem")


def test_a_key_is_replaced_only_by_force(edgecifar, fails, tmp_path):
    pytest.importorskip("cryptography")
    key = tmp_path / "maker.pem"
    assert edgecifar("sign", "--new-key", key).exit_code == 0
    first = key.read_text()
    assert "--force overwrites it" in fails("sign", "--new-key", key)
    assert key.read_text() == first
    assert edgecifar("sign", "--new-key", key, "--force").exit_code == 0
    assert key.read_text() != first


def test_wrong_usage_of_sign(edgecifar, model, tmp_path):
    assert edgecifar("sign", model).exit_code == 2
    assert edgecifar("sign", "--key", tmp_path / "k.pem").exit_code == 2
    both = ("--key", tmp_path / "k.pem", "--new-key", tmp_path / "n.pem")
    assert edgecifar("sign", model, *both).exit_code == 2


def test_json_has_no_number_for_a_difference_from_nan(edgecifar, model, monkeypatch):
    decode = Classifier.probabilities
    monkeypatch.setattr(Classifier, "probabilities", lambda self, s: decode(self, s) * float("nan"))
    result = edgecifar("verify", model, "--json")
    text = result.stdout[: result.stdout.rindex("}") + 1]
    told = json.loads(text, parse_constant=pytest.fail)
    assert told["golden"]["largest_difference"] is None
