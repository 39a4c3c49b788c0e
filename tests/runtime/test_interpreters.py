import sys

import numpy as np
import pytest

from edgecifar.runtime import ailments, interpreters, modelfile
from edgecifar.runtime.backends import Backend
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import BACKENDS, choose_backend, open_model


def test_tensors_of_the_tiny_files(bare):
    int8 = open_model(modelfile.read(bare / "int8.tflite"))
    assert (int8.input.shape, int8.input.dtype) == ((1, 16, 16, 3), np.int8)
    assert (int8.input.scale, int8.input.zero_point) == (1 / 64, -8)
    assert (int8.output.scale, int8.output.zero_point) == (1 / 256, -128)
    onnx = open_model(modelfile.read(bare / "float32.onnx"))
    assert (onnx.input.shape, onnx.input.dtype) == ((1, 16, 16, 3), np.float32)
    assert onnx.output.shape == (1, 4)
    assert int8.backend.split()[0] in BACKENDS
    assert onnx.backend.startswith("onnxruntime ")


def test_backends_agree(bare, images):
    model = modelfile.read(bare / "float32.tflite")
    pixels = images[:1].astype(np.float32)
    runs = [open_model(model, backend=name).run(pixels) for name in ("litert", "tensorflow")]
    runs.append(open_model(modelfile.read(bare / "float32.onnx")).run(pixels))
    # Float32 sums in another order; softmax keeps differences of 1e-6 about that size.
    assert np.allclose(runs[0], runs[1], atol=1e-5)
    assert np.allclose(runs[0], runs[2], atol=1e-5)


def test_underscores_and_unknown_backends(monkeypatch):
    there = Backend("tflite-runtime", "tflite", ("tflite-runtime",), lambda: None)
    monkeypatch.setitem(BACKENDS, "tflite-runtime", there)
    assert choose_backend("tflite", "tflite_runtime") is there
    assert choose_backend("tflite", "litert").name == "litert"
    with pytest.raises(EdgecifarError, match="take one of litert, tflite-runtime, tensorflow"):
        choose_backend("tflite", "onnxruntime")


def test_missing_interpreters_name_the_pip_command(monkeypatch):
    for module in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(Backend, "version", "unknown")
    with pytest.raises(EdgecifarError, match=r"litert: .*`pip install ai-edge-litert`"):
        choose_backend("tflite")
    with pytest.raises(EdgecifarError, match="`pip install tflite-runtime`"):
        choose_backend("tflite", "tflite_runtime")


@pytest.mark.parametrize(
    ("machine", "mend"),
    [
        ({"machine": "armv7l", "python_bits": 32, "python": "3.11.2"}, "install tflite-runtime"),
        ({"libc": "musl"}, "edgecifar doctor"),
    ],
)
def test_missing_interpreters_name_what_the_machine_can_run(monkeypatch, machine, mend):
    known = ailments.describe_machine() | {"platform": "linux", "libc": "glibc 2.36"} | machine
    monkeypatch.setattr(ailments, "describe_machine", lambda: known)
    for module in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(Backend, "version", "unknown")
    with pytest.raises(EdgecifarError, match=f"there is no wheel .*: `(pip )?{mend}"):
        choose_backend("tflite")


def test_an_interpreter_for_another_numpy_names_the_numpy(monkeypatch, capsys):
    def load():
        print("A module that was compiled using NumPy 1.x cannot be run", file=sys.stderr)
        raise ImportError("numpy.core.multiarray failed to import")

    broken = Backend("tflite-runtime", "tflite", ("tflite-runtime",), load)
    monkeypatch.setattr(interpreters, "BACKENDS", {"tflite-runtime": broken})
    monkeypatch.setattr(Backend, "version", "2.14.0")
    with pytest.raises(EdgecifarError, match=r"built for NumPy 1.*`pip install 'numpy<2'`"):
        choose_backend("tflite")
    assert capsys.readouterr().err == ""


def test_no_threads(bare):
    with pytest.raises(EdgecifarError, match="0 threads"):
        open_model(modelfile.read(bare / "int8.tflite"), threads=0)


def test_opening_is_silent(bare, capfd):
    open_model(modelfile.read(bare / "int8.tflite"))
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""


def test_a_graph_that_onnxruntime_rejects(bare, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bare / "float32.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(EdgecifarError, match=r"strange\.onnx: .*NoSuchOperator"):
        open_model(modelfile.read(tmp_path / "strange.onnx"))


def test_free_sizes_are_refused(bare, tmp_path):
    """At one pixel by one, any answer would be nonsense."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bare / "float32.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "size"
    onnx.save(model, tmp_path / "free.onnx")
    with pytest.raises(EdgecifarError, match=r"free\.onnx: .*\[free, free.*with fixed sizes"):
        open_model(modelfile.read(tmp_path / "free.onnx"))


def test_a_free_size_in_a_tflite_file_is_refused(tmp_path):
    tf = pytest.importorskip("tensorflow")

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)])
        def __call__(self, pixels):
            return tf.nn.softmax(tf.reduce_mean(pixels, axis=[1, 2]))

    net = Net()
    concrete = net.__call__.get_concrete_function()
    path = tmp_path / "free.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], net).convert())
    with pytest.raises(EdgecifarError, match=r"\[1, free, free, 3\]: export it with fixed sizes"):
        open_model(modelfile.read(path))
