"""Tiny model files: a convolution, pooling and softmax over four classes, with fixed weights."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from edgecifar.runtime import modelfile

CLASSES = ("ant", "bee", "cow", "dog")
SIZE = 16


@pytest.fixture(scope="session")
def images():
    """64 uint8 images [16, 16, 3] that reach 0 and 255 and that the tiny net tells apart."""
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 256, (64, SIZE, SIZE, 3), np.uint8)
    for row, channel in enumerate(np.arange(64) % 3):
        drawn[row, ..., channel] |= 0xC0
    return drawn


@pytest.fixture(scope="session")
def bare(images, tmp_path_factory):
    """Folder with float32.tflite, int8.tflite and float32.onnx, none with a description."""
    folder = tmp_path_factory.mktemp("bare")
    pytest.importorskip("tensorflow")
    pytest.importorskip("onnx")
    weights = _weights()
    model = _keras_model(*weights)
    (folder / "float32.tflite").write_bytes(_convert(model, None))
    (folder / "int8.tflite").write_bytes(_convert(model, images))
    (folder / "float32.onnx").write_bytes(_onnx_bytes(*weights))
    return folder


@pytest.fixture
def described(bare, tmp_path):
    """Copies of the files in `bare` that carry labels and metadata; write to them freely."""
    for source in bare.iterdir():
        target = tmp_path / source.name
        target.write_bytes(source.read_bytes())
        metadata = {"name": f"tiny-{source.stem}", "architecture": "tiny"}
        if source.stem == "int8":
            metadata["input"] = {"encoding": "pixel-128"}
        modelfile.append(target, metadata, CLASSES)
    return tmp_path


@pytest.fixture
def labelled_npz(images, tmp_path):
    """The images with labels in a file as `edgecifar data pack` writes it."""
    path = tmp_path / "test.npz"
    labels = np.arange(len(images)) % len(CLASSES)
    np.savez(path, images=images, labels=labels, classes=CLASSES, split="test", name="insects")
    return path


def _weights():
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.4, (3, 3, 3, 8)).astype(np.float32)
    dense = rng.normal(0, 2.0, (8, len(CLASSES))).astype(np.float32)
    return kernel, dense


def _keras_model(kernel, dense):
    import tf_keras as keras

    from edgecifar import train  # noqa: F401 (chooses Keras 2 before TensorFlow is imported)

    pixels = keras.Input((SIZE, SIZE, 3), batch_size=1)
    convolution = keras.layers.Conv2D(8, 3, use_bias=False, activation="relu")
    classes = keras.layers.Dense(len(CLASSES), use_bias=False, activation="softmax")
    pooled = keras.layers.GlobalAveragePooling2D()(convolution((pixels - 120.0) / 64.0))
    model = keras.Model(pixels, classes(pooled))
    convolution.set_weights([kernel])
    classes.set_weights([dense])
    return model


def _convert(model, calibration):
    import tensorflow as tf

    if calibration is None:
        return tf.lite.TFLiteConverter.from_keras_model(model).convert()
    # From a net that starts after the normalisation, the input's quantization becomes it.
    inner = _without_normalisation(model)
    converter = tf.lite.TFLiteConverter.from_keras_model(inner)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter.representative_dataset = lambda: (
        [((image[None].astype(np.float32) - 120) / 64)] for image in calibration
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return converter.convert()


def _without_normalisation(model):
    import tf_keras as keras

    start = keras.Input((SIZE, SIZE, 3), batch_size=1)
    value = start
    for layer in model.layers:
        if layer.weights or isinstance(layer, keras.layers.GlobalAveragePooling2D):
            value = layer(value)
    return keras.Model(start, value)


def _onnx_bytes(kernel, dense):
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "offset": np.float32(120),
        "scale": np.float32(64),
        "kernel": kernel.transpose(3, 2, 0, 1).copy(),
        "dense": dense,
    }
    nodes = [
        helper.make_node("Sub", ["pixels", "offset"], ["shifted"]),
        helper.make_node("Div", ["shifted", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["features"]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"author": "someone else"})
    return model.SerializeToString()


@pytest.fixture
def peers():
    """MLPerf Tiny's files, where EDGECIFAR_PEERS says."""
    import os

    folder = os.environ.get("EDGECIFAR_PEERS")
    if not folder:
        pytest.skip("EDGECIFAR_PEERS isn't set")
    return Path(folder)
