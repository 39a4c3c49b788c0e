import re
from pathlib import Path

import pytest

from edgecifar.runtime import modelfile
from edgecifar.runtime.compatibility import least_version
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import open_model


@pytest.fixture
def altered(bare, tmp_path):
    """Write the float32 .tflite with its first operator changed, and return its path."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    def write(**changes):
        model = schema.ModelT.InitFromPackedBuf((bare / "float32.tflite").read_bytes(), 0)
        for name, value in changes.items():
            setattr(model.operatorCodes[0], name, value)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        path = tmp_path / "altered.tflite"
        path.write_bytes(bytes(builder.Output()))
        return path

    return write


def message(path):
    with pytest.raises(EdgecifarError) as caught:
        open_model(modelfile.read(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_newer_operator(altered):
    path = altered(version=99)
    text = message(path)
    assert "version 99 of the operator" in text
    assert re.search(r"it runs on TensorFlow Lite \d+\.\d+\.\d+ and newer$", text)
    modelfile.append(path, {"golden": {"backend": "litert 9.1.0"}}, None)
    assert message(path).endswith("it runs on litert 9.1.0 and newer")


def test_an_unknown_operator(altered):
    assert "an operator, number 250," in message(
        altered(builtinCode=250, deprecatedBuiltinCode=127)
    )


def test_a_custom_operator(altered):
    text = message(altered(builtinCode=32, deprecatedBuiltinCode=32, customCode=b"Mine"))
    assert "the custom operator Mine, which no litert brings" in text


@pytest.mark.parametrize(
    ("operator", "domain", "opset", "ir", "expected"),
    [
        ("Relu", "", 99, 8, "it has opset 99 that onnxruntime"),
        ("Relu", "", 17, 99, "it has IR version 99 that onnxruntime"),
        ("Mine", "", 17, 8, "it runs on onnxruntime 1.12 and newer"),
        ("Mine", "mine", 17, 8, "the custom operator mine:Mine, which no onnxruntime brings"),
    ],
)
def test_onnx(tmp_path, operator, domain, opset, ir, expected):
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, number, [1]) for name in "xy"]
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:])
    imports = [
        helper.make_opsetid("", opset),
        *([helper.make_opsetid(domain, 1)] if domain else []),
    ]
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir)
    path.write_bytes(model.SerializeToString())
    assert expected in message(path)


@pytest.mark.parametrize(
    ("opset", "version"), [(21, "1.18"), (22, "1.21"), (23, "1.23"), (26, "1.25"), (28, "1.32")]
)
def test_opsets_of_onnxruntime(bare, opset, version):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bare / "float32.onnx")
    model.opset_import[0].version = opset
    payload = model.SerializeToString()
    found = modelfile.ModelFile(Path("x.onnx"), "onnx", payload, None, None, len(payload))
    assert least_version(found) == f"onnxruntime {version}"


def test_least_versions(bare):
    assert least_version(modelfile.read(bare / "float32.onnx")) == "onnxruntime 1.12"
    assert least_version(modelfile.read(bare / "int8.tflite")).startswith("TensorFlow Lite ")
