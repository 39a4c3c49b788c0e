import numpy as np
import pytest

from edgecifar.compress.bare import probabilities
from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.inspect import operations, require_int8
from edgecifar.compress.quantize import prepare
from edgecifar.compress.selective import quantize_but
from edgecifar.compress.tflite import to_tflite, with_raw_pixels
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.evaluate import predict


@pytest.fixture(scope="module")
def payloads(digits, digits_run):
    model, images = digits_run.load_model(), calibration_images(digits, 100)
    return {kind: to_tflite(model, kind, images) for kind in ("float32", "int8", "dynamic")}


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


@pytest.mark.parametrize("floats", [(), ("dense",)], ids=["int8", "a layer in float"])
def test_a_filter_without_weights_keeps_its_bias(digits, digits_run, floats):
    """Its own range would be next to nothing, and the bias in such steps more than 32 bits."""
    model, images = digits_run.load_model(), calibration_images(digits, 100)
    norm = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"][-1]
    convolution = norm.inbound_nodes[0].inbound_layers
    kernel, *bias = convolution.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    kernel[..., :16], mean[:16], beta[:16] = 0, 0, 4.0
    convolution.set_weights([kernel, *bias])
    norm.set_weights([gamma, beta, mean, variance])
    prepared = prepare(model, images)
    limits = prepared.get_layer(f"quant_{convolution.name}")._weight_vars[0][2]
    for end, variable in limits.items():  # as fine-tuning leaves them
        usual = variable.numpy()
        usual[:16] = 1e-8 if end == "max_var" else -1e-8
        variable.assign(usual)
    simulated = predict(prepared, digits.validation)
    if floats:
        payload = quantize_but(floats, prepared, images)
    else:
        payload = to_tflite(prepared, "int8", images)
    np.testing.assert_array_equal(predict(prepared, digits.validation), simulated)
    found = probabilities(payload, digits.validation.images)
    assert np.abs(found - simulated).mean() < 0.01
