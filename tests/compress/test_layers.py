import pytest
import tf_keras as keras

from edgecifar.compress.inspect import Operation
from edgecifar.compress.layers import Owners, owners_in, plain_name

LAYERS = ("conv2d", "batch_normalization", "re_lu", "add", "add_1", "conv1", "conv1/conv", "dense")
OWNERS = Owners("net", LAYERS, "dense")


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("net/re_lu/Relu;net/batch_normalization/FusedBatchNormV3;net/conv2d/Conv2D1", "re_lu"),
        ("net/conv2d/BiasAdd:0_DequantizeLinear_Output", "conv2d"),
        ("net/quant_re_lu/Relu;net/quant_conv2d/Conv2D", "re_lu"),
        ("model/net/dense/MatMul/MatMulAddFusion", "dense"),
        ("dense", "dense"),
        ("net/add_1/add", "add_1"),  # the operation's own name is no layer
        ("net/conv1/conv/Conv2D", "conv1/conv"),  # nor is a part of a longer name
        ("net/quant_conv1/conv/Conv2D", "conv1/conv"),
        ("model/net/conv1/conv/Conv2D", "conv1/conv"),
        ("net/conv1/Conv2D", "conv1"),
        ("net/conv2d_11/Conv2D", None),
        ("StatefulPartitionedCall:0", None),
    ],
)
def test_the_last_layer_in_a_name_is_the_one_put_out(tensor, layer):
    assert OWNERS.put_out(tensor) == layer


def test_a_layer_may_be_called_like_its_model():
    owners = Owners("conv", ("conv", "dense"), "dense")
    assert owners.put_out("conv/conv/Conv2D") == "conv"
    assert owners.put_out("conv/dense/MatMul") == "dense"


@pytest.mark.parametrize(
    ("output", "constants", "layers"),
    [
        ("net/re_lu/Relu;net/conv2d/BiasAdd", (), ("conv2d", "re_lu")),
        ("StatefulPartitionedCall:0", ("net/conv2d/Conv2D",), ("conv2d",)),
        ("StatefulPartitionedCall:01", (), ("dense",)),
        ("arith.constant", (), ()),
    ],
)
def test_names_tell_the_layers_of_an_operation(output, constants, layers):
    operation = Operation("CONV_2D", output, 0, (), (), constants)
    assert OWNERS.of(operation) == layers


def test_without_wrappers_a_layer_may_be_called_like_one():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="quant_dense")])
    owners = owners_in(model)
    assert owners.layers == ("quant_dense",)
    assert owners.put_out(f"{model.name}/quant_dense/MatMul") == "quant_dense"


def test_wrappers_have_the_name_of_their_layer():
    assert plain_name("quant_conv2d_1") == "conv2d_1"
    assert plain_name("conv2d_1") == "conv2d_1"
