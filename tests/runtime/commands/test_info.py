import json
import sys

from edgecifar.runtime import modelfile, shipped


def test_a_file_of_ours(edgecifar, described):
    result = edgecifar("info", described / "int8.tflite")
    assert result.exit_code == 0
    text = result.stdout
    assert "tiny-int8" in text
    assert "verified" in text
    assert "int8 1x16x16x3, scale 0.015625, zero point -8" in text
    assert "ant, bee, cow, dog" in text


def test_without_a_file_it_tells_of_the_model_that_ships(edgecifar):
    result = edgecifar("info")
    assert result.exit_code == 0
    assert str(shipped.default_model()) in result.stdout
    assert "airplane, automobile" in result.stdout
    assert "crop 4, cutout" in result.stdout
    assert "{" not in result.stdout


def test_a_named_interpreter(edgecifar, fails, described):
    result = edgecifar("info", described / "float32.onnx", "--backend", "onnxruntime", "--json")
    assert json.loads(result.stdout)["backend"].startswith("onnxruntime ")
    result = edgecifar("info", "--backend", "litert", "--json")
    assert json.loads(result.stdout)["backend"].startswith("litert ")
    assert "take one of litert, tflite-runtime" in fails("info", "--backend", "onnxruntime")


def test_json_of_a_foreign_file(edgecifar, bare):
    found = json.loads(edgecifar("info", bare / "float32.onnx", "--json").stdout)
    assert found["kind"] == "onnx"
    assert found["verified"] is False
    assert found["metadata"] is None
    assert found["input"]["shape"] == [1, 16, 16, 3]


def test_a_description_does_not_steer_the_terminal(edgecifar, described):
    path = described / "int8.tflite"
    modelfile.append(
        path,
        {
            "name": "tiny\x1b[2J", "labels": ["ant\nverified", "bee\x1b]0;title\x07", "cow", "dog"],
            "recipe": {"epochs\r": "\x9b8m"}, "dataset": {"name": "\u202eslebal"},
        },
        None,
    )  # fmt: skip
    result = edgecifar("info", path)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.splitlines())
    assert r"tiny\x1b[2J" in result.stdout
    assert r"ant\nverified, bee\x1b]0;title\x07, cow" in result.stdout
    found = json.loads(edgecifar("info", path, "--json").stdout)
    assert found["labels"][0] == "ant\nverified"


def test_without_an_interpreter_the_file_speaks_for_itself(
    edgecifar, fails, described, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = described / "float32.onnx"
    result = edgecifar("info", path)
    assert result.exit_code == 0
    assert "tiny-float32" in result.stdout
    assert "ant, bee, cow, dog" in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("tensors"))
    assert "unknown (no interpreter for .onnx files imports" in line
    assert "`pip install onnxruntime`" in line
    found = json.loads(edgecifar("info", path, "--json").stdout)
    assert found["input"] is found["output"] is found["backend"] is None
    assert "pip install onnxruntime" in found["unloaded"]
    assert "pip install onnxruntime" in fails("info", path, "--backend", "onnxruntime")


def test_a_damaged_file(fails, described):
    path = described / "int8.tflite"
    path.write_bytes(path.read_bytes()[:-30])
    assert str(path) in fails("info", path)
