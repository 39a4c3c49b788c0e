import numpy as np
import pytest
import tf_keras as keras
from tf_keras import layers

from edgecifar.compress.bare import probabilities
from edgecifar.compress.formats import FORMATS
from edgecifar.compress.inspect import operations, require_int8
from edgecifar.compress.onnx import to_onnx
from edgecifar.compress.quantize import prepare
from edgecifar.compress.selective import quantize_but
from edgecifar.compress.tflite import samples, to_tflite, with_raw_pixels
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.evaluate import predict
from edgecifar.train.normalisation import RANGE, normalise


def test_int8_is_the_normalisation_itself(payloads):
    """Scale 1/64 and zero point -8 make `pixel - 128` of a pixel, with no operation left."""
    from ai_edge_litert.interpreter import Interpreter

    (spec,) = Interpreter(model_content=payloads["int8"]).get_input_details()
    assert spec["dtype"] == np.int8
    assert spec["quantization"] == (1 / 64, -8)
    assert operations(payloads["int8"])[0].name == "CONV_2D"


def test_int8_computes_in_int8_throughout(payloads):
    require_int8(payloads["int8"], name="resnet8")
    kinds = {kind for op in operations(payloads["int8"]) for kind in (*op.inputs, *op.outputs)}
    assert kinds == {"int8", "int32"}  # int32 are biases and the axes of the mean


def test_an_operation_left_in_float_is_named(payloads):
    with pytest.raises(EdgecifarError, match=r"net is not int8 throughout.*CONV_2D \(.*\) and"):
        require_int8(payloads["dynamic"], name="net")


def test_weights_in_int8_take_a_third_of_the_bytes(payloads):
    assert len(payloads["int8"]) < len(payloads["float32"]) / 3


def test_raw_pixels_go_in(digits, digits_run):
    model = digits_run.load_model()
    pixels = digits.validation.images.astype(np.float32)
    raw = with_raw_pixels(model).predict(pixels, verbose=0)
    np.testing.assert_allclose(raw, predict(model, digits.validation), atol=1e-5)


@pytest.fixture(scope="module")
def without_weights(digits_run, calibration):
    """A net prepared for int8, of whose last convolution some filters have a bias alone."""
    model = digits_run.load_model()
    norm = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"][-1]
    convolution = norm.inbound_nodes[0].inbound_layers
    kernel, *bias = convolution.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    kernel[..., :16], mean[:16], beta[:16] = 0, 0, 4.0
    convolution.set_weights([kernel, *bias])
    norm.set_weights([gamma, beta, mean, variance])
    prepared = prepare(model, calibration)
    limits = prepared.get_layer(f"quant_{convolution.name}")._weight_vars[0][2]
    for end, variable in limits.items():  # as fine-tuning leaves them
        usual = variable.numpy()
        usual[:16] = 1e-8 if end == "max_var" else -1e-8
        variable.assign(usual)
    return prepared


@pytest.mark.parametrize("floats", [(), ("dense",)], ids=["int8", "a layer in float"])
def test_a_filter_without_weights_keeps_its_bias(digits, without_weights, calibration, floats):
    """Its own range would be next to nothing, and the bias in such steps more than 32 bits."""
    simulated = predict(without_weights, digits.validation)
    if floats:
        payload = quantize_but(floats, without_weights, calibration)
    else:
        payload = to_tflite(without_weights, "int8", calibration)
    np.testing.assert_array_equal(predict(without_weights, digits.validation), simulated)
    found = probabilities(payload, digits.validation.images)
    assert np.abs(found - simulated).mean() < 0.01


def test_pixels_that_meet_other_values_first_are_refused():
    """A Concatenate has one scale for all that it joins, and pooling hands it to the input."""
    pixels = keras.Input((16, 16, 3))
    ways = [layers.Conv2D(8, 3, strides=2, padding="same"), layers.MaxPooling2D(2)]
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()([way(pixels) for way in ways]))
    model = keras.Model(pixels, layers.Dense(3, activation="softmax")(x))
    noise = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    payload = to_tflite(model, "int8", noise)
    with pytest.raises(EdgecifarError, match=r"^joined would take pixels in steps of 0\.0[^1]"):
        FORMATS["int8"].inspect(payload, model, "joined")
    wide = to_tflite(model, "int16x8", noise)
    assert "all on integers" in FORMATS["int16x8"].inspect(wide, model, "joined")


def test_no_image_is_calibrated_on_that_is_none():
    """A white one would widen all ranges of a network for images that are never bright."""
    dark = np.random.default_rng(0).integers(10, 40, (5, 8, 8, 3), np.uint8)
    first, *others = (image for (image,) in samples(dark))
    assert (first != normalise(dark[:1].astype(np.float32))).sum() == 2 * 3
    assert (first.min(), first.max()) == RANGE
    assert np.array_equal(np.concatenate(others), normalise(dark[1:].astype(np.float32)))


@pytest.mark.parametrize("convert", [to_onnx, lambda model: to_tflite(model, "float32", None)])
def test_a_model_may_be_called_what_files_call_their_input(convert):
    pixels = keras.Input((8, 8, 3))
    x = layers.Dense(3, activation="softmax")(layers.Flatten()(pixels))
    assert convert(keras.Model(pixels, x, name="image"))
