import numpy as np
import pytest
import tf_keras as keras

from edgecifar.compress.bare import probabilities
from edgecifar.compress.inspect import operations
from edgecifar.compress.layers import owners_in
from edgecifar.compress.selective import (
    file_part,
    fused_with,
    quantize_but,
    quantized_layers,
    ranged,
    require_float_only,
)
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.evaluate import predict

BETWEEN = ["QUANTIZE", "DEQUANTIZE"]


@pytest.fixture(scope="module")
def model(digits_run):
    return digits_run.load_model()


@pytest.fixture
def file(resnet8_ranged):
    return resnet8_ranged


@pytest.fixture(scope="module")
def convolutions(model):
    return [layer.name for layer in model.layers if type(layer).__name__ == "Conv2D"]


def floats(payload):
    """Return the operations of a file that compute in float."""
    return [op for op in operations(payload) if op.is_float and op.name not in BETWEEN]


def test_without_float_layers_it_is_the_converters_own_file(digits, payloads, file):
    found, expected = (
        probabilities(payload, digits.validation.images)
        for payload in (file.quantized(), payloads["int8"])
    )
    np.testing.assert_array_equal(found, expected)


def test_every_layer_is_in_one_unit(model, file):
    layers = [layer for unit in file.units for layer in unit.layers]
    assert sorted(layers) == sorted(owners_in(model).layers)
    assert file.loose == ()


def test_norm_and_activation_go_with_their_convolution(file, convolutions):
    unit = file.units[0]
    assert unit.name == convolutions[0] == unit.layers[0]
    assert [name.rstrip("_0123456789") for name in unit.layers[1:]] == [
        "batch_normalization",
        "re_lu",
    ]


def test_only_the_named_layer_is_in_float(model, file, convolutions):
    name = convolutions[4]
    payload = file.quantized(file.units_of([name]))
    (found,) = floats(payload)
    assert found.name == "CONV_2D"
    assert name in owners_in(model).of(found)
    assert len(operations(payload)) == len(operations(file.quantized())) + 2  # there and back
    assert not {name} & set(quantized_layers(model, payload))


def test_a_layer_fused_into_another_takes_it_along(file, convolutions):
    """The ReLU is one operation with its convolution."""
    last = file.units[0].layers[-1]
    assert file.units_of([last]) == file.units_of([convolutions[0]])


def test_nothing_is_rounded_between_neighbours_in_float(file, convolutions):
    payload = file.quantized(file.units_of(convolutions[1:3]))
    names = [op.name for op in operations(payload)]
    assert names[:4] == ["CONV_2D", "DEQUANTIZE", "CONV_2D", "CONV_2D"]


def test_all_in_float_is_what_keras_computes(digits, model, file):
    found = probabilities(file.quantized(file.units), digits.validation.images)
    assert (
        np.abs(found - predict(model, digits.validation)).max() <= 1 / 256
    )  # probability 1 is 255 / 256


def test_one_alone_in_int8_leaves_the_others_in_float(file):
    unit = file.units[2]
    found = {op.output for op in floats(file.quantized_alone(unit))}
    assert len(found) == len(file.units) - 1


def test_an_unknown_layer_is_answered_with_the_nearest(model):
    with pytest.raises(EdgecifarError, match=r"no layer is called 'conv2'.*did you mean conv2d"):
        fused_with(model, ["conv2"])


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def normed():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.SeparableConv2D(4, 3, name="apart"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="act"),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="last"),
        ]
    )


@pytest.fixture(scope="module")
def separable():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.SeparableConv2D(4, 3, activation="relu", name="apart"),
            layers.Dropout(0.5, name="dropped"),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="last"),
        ]
    )


def test_a_layer_of_several_operations_is_one_unit(separable, noise):
    file = ranged(separable, noise)
    (apart,) = file.units_of(["apart"])
    assert apart.operations == ("DEPTHWISE_CONV_2D", "CONV_2D")
    assert {op.name for op in floats(file.quantized([apart]))} == set(apart.operations)
    (last,) = file.units_of(["last"])  # which the file's output has lost the name of
    assert last.operations == ("FULLY_CONNECTED", "SOFTMAX")


@pytest.mark.parametrize("layer", ["apart", "act"])
def test_what_shares_a_unit_stays_in_float_together(normed, noise, layer):
    """A separable convolution is two operations, of which only the second takes norm and ReLU."""
    payload = quantize_but([layer], normed, noise)
    said = require_float_only([layer], normed, payload, name="net-int8.tflite")
    assert said.endswith(f"for {layer}")
    assert [op.name for op in floats(payload)] == ["DEPTHWISE_CONV_2D", "CONV_2D"]


def test_other_layers_in_float_fail_and_so_do_those_that_are_not(normed, noise):
    payload = quantize_but(["act"], normed, noise)
    with pytest.raises(EdgecifarError, match=r"these stay in float: DEPTHWISE_CONV_2D \("):
        require_float_only(["last"], normed, payload, name="net-int8.tflite")
    with pytest.raises(EdgecifarError, match="in int8, which --keep-float leaves in float"):
        require_float_only(["act", "last"], normed, payload, name="net-int8.tflite")


def test_a_layer_that_computes_nothing_cannot_be_in_float(separable):
    with pytest.raises(EdgecifarError, match="layer dropped computes nothing in the file: leave"):
        fused_with(separable, ["dropped"])


def test_file_names_say_which_layers_are_in_float():
    assert file_part(()) == ""
    assert file_part(("a", "block/b")) == "-float-a+block_b"
    assert file_part(tuple("abcde")) == "-float-a+b+c+2more"
