import pytest

from edgecifar.compress.layers import layer_of, plain_name

LAYERS = ("conv2d", "batch_normalization", "re_lu", "conv2d_1", "dense")


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("net/re_lu/Relu;net/batch_normalization/FusedBatchNormV3;net/conv2d/Conv2D1", "re_lu"),
        ("net/conv2d_1/BiasAdd:0_DequantizeLinear_Output", "conv2d_1"),
        ("net/quant_re_lu/Relu;net/quant_conv2d/Conv2D", "re_lu"),
        ("model/net/dense/MatMul/MatMulAddFusion", "dense"),
        ("dense", "dense"),
        ("net/conv2d_11/Conv2D", None),
        ("StatefulPartitionedCall:0", None),
    ],
)
def test_the_last_layer_in_a_name_is_the_one_put_out(tensor, layer):
    assert layer_of(tensor, LAYERS) == layer


def test_wrappers_have_the_name_of_their_layer():
    assert plain_name("quant_conv2d_1") == "conv2d_1"
    assert plain_name("conv2d_1") == "conv2d_1"
