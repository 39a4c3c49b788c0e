import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import tf_keras as keras

from edgecifar.compress.conversion import converting
from edgecifar.compress.onnx import to_onnx
from edgecifar.compress.onnx_int8 import to_onnx_int8
from edgecifar.compress.tflite import to_tflite
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import normalise

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("what is wrong\nand where", "what is wrong"),
        ('<unknown>:0: error: loc(fused["X"("a.py":1:1)]): \'tf.X\' op is odd', "'tf.X' op is odd"),
        ("", "ValueError"),
        ("x" * 999, "x" * 199 + "…"),
    ],
)
def test_the_first_line_of_what_a_converter_raises_is_told(raised, told):
    with pytest.raises(EdgecifarError) as found, converting("ONNX"):
        raise ValueError(raised)
    assert str(found.value) == (
        f"the model can't be converted to ONNX ({told}): replace the layer that does this, or "
        "export another format"
    )


@pytest.mark.parametrize("want", [OSError(28, "No space left on device"), MemoryError()])
def test_a_want_of_disk_or_memory_is_not_the_model_s(want):
    with pytest.raises(type(want)) as found, converting("int8 ONNX"):
        raise want
    assert found.value is want


def test_gelu_becomes_onnx():
    """TensorFlow computes it by an operation that ONNX hasn't."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="gelu")(inputs)
    model = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Flatten()(x)))
    pixels = IMAGES.astype(np.float32)
    (found,) = onnxruntime.InferenceSession(to_onnx(model)).run(None, {"image": pixels})
    np.testing.assert_allclose(found, model(normalise(pixels)), atol=1e-6)


def test_an_error_of_ours_stays_as_it_is():
    with pytest.raises(EdgecifarError, match=r"^no such layer$"), converting("ONNX"):
        raise EdgecifarError("no such layer")


@pytest.fixture(scope="module")
def exotic():
    """A net with an operation that no file format has."""
    taken = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, activation="sigmoid")(taken)
    x = keras.layers.Lambda(lambda x: tf.math.betainc(x + 1, x + 1, x), name="odd")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(taken, keras.layers.Dense(3, activation="softmax")(x), name="net")


@pytest.mark.parametrize(
    ("convert", "target"),
    [
        (lambda model: to_tflite(model, "float32", IMAGES), "float32 TFLite"),
        (lambda model: to_tflite(model, "int8", IMAGES), "int8 TFLite"),
        (to_onnx, "ONNX"),
        (lambda model: to_onnx_int8(model, IMAGES), "int8 ONNX"),
    ],
)
def test_an_operation_without_a_form_is_named(exotic, convert, target, capfd):
    with pytest.raises(EdgecifarError, match=rf"converted to {target} \(.*Betainc.*\): replace"):
        convert(exotic)
    assert capfd.readouterr().err == ""
