import json
import re
import sys

import pytest

from edgecifar.runtime import modelfile, shipped, tflite_container
from edgecifar.runtime.backends import Backend


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
    assert "crop 4, cutmix 0.5, cutout 8" in result.stdout
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


PARITY = {
    "agreement": 99.36,
    "change": {"value": -0.18, "low": -0.3872, "high": 0.0274},
    "largest_difference": 0.0727,
    "mean_difference": 0.00143,
    "n": 5000,
    "per_class": {"ant": -0.4, "bee": 0.4, "cow": -1.053, "dog": 0.0},
}


def test_figures_are_in_words(edgecifar, described):
    path = described / "int8.tflite"
    top1 = {"top1": 90.0, "low": 89.0, "high": 91.0, "n": 10_000, "split": "test"}
    accuracy = {"original": top1 | {"top1": 92.0}, "float": top1, "this": top1 | {"top1": 89.5}}
    metadata = {"accuracy": accuracy, "parity": PARITY, "divisor": 0.702}
    modelfile.append(path, metadata, ("ant", "bee", "cow", "dog"))
    told = edgecifar("info", path).stdout
    shown = dict(re.split(" {2,}", line, maxsplit=1) for line in told.splitlines())
    assert shown["top-1 of the original"].startswith("92.00 %")
    assert shown["top-1 of this file"] == "89.50 % (89.00 to 91.00, n = 10,000 test images)"
    assert shown["against Keras"] == (
        "99.36 % of answers the same, accuracy unchanged within chance (-0.18 points, "
        "-0.39 to +0.03, 5,000 validation images), worst class cow (-1.1 points)"
    )
    assert shown["probabilities"] == "differ from Keras's by 0.14 points on average, 7.3 at most"
    assert shown["confidence"].startswith("logits divided by 0.702: confidence fits accuracy")
    assert "{" not in told
    change = {"value": -1.5, "low": -2.0, "high": -1.0}
    modelfile.append(path, {"divisor": 3.998}, None)
    assert "the most that is tried: confidence doesn't fit" in edgecifar("info", path).stdout
    modelfile.append(path, {"parity": {"change": change}, "divisor": 1.0}, None)
    told = edgecifar("info", path).stdout
    assert "1.50 points lost (-2.00 to -1.00)" in told
    assert "logits" not in told


@pytest.mark.parametrize(
    "value", [None, [], "x", {}, True, pytest.param(10**400, id="huge"), float("inf")]
)
def test_figures_that_are_none(edgecifar, described, value):
    """A stranger's description may hold anything where its checksum is right."""
    path = described / "int8.tflite"
    payload, attachments = tflite_container.split(path.read_bytes())
    metadata = json.loads(attachments["edgecifar.json"])
    metadata |= {"parity": dict.fromkeys(PARITY, value), "divisor": value}
    if isinstance(value, (int, float)):
        metadata["accuracy"] = {"this": {"top1": value, "n": value}}
    metadata["metadata_sha256"] = modelfile.metadata_sha256(metadata)
    attachments["edgecifar.json"] = json.dumps(metadata).encode()
    path.write_bytes(tflite_container.join(payload, attachments))
    assert edgecifar("info", path).exit_code == 0


def test_without_an_interpreter_the_file_speaks_for_itself(
    edgecifar, fails, described, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(Backend, "version", "unknown")
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
