"""Multiply-accumulates of a Keras model, the usual measure of a network's work."""

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras as keras


def count_macs(model: "keras.Model") -> int:
    """Return the multiply-accumulates of one image through convolutions and dense layers.

    Additions of biases, batch normalisation (folded at export), pooling and activations are left
    out, as in MLPerf Tiny's and most published counts.
    """
    return sum(layer_macs(layer) for layer in model.layers)


def layer_macs(layer: "keras.layers.Layer") -> int:
    """Return the multiply-accumulates of one layer for one image, 0 for those without kernels."""
    from tf_keras import layers

    inner = getattr(layer, "layer", layer)  # quantization wraps the layer it stands for
    if isinstance(inner, layers.DepthwiseConv2D):
        kernel = inner.depthwise_kernel.shape
        return prod(kernel) * prod(layer.output_shape[1:3])
    if isinstance(inner, layers.SeparableConv2D):
        kernels = prod(inner.depthwise_kernel.shape) + prod(inner.pointwise_kernel.shape)
        return kernels * prod(layer.output_shape[1:3])
    if isinstance(inner, layers.Conv2D):
        return prod(inner.kernel.shape) * prod(layer.output_shape[1:3])
    if isinstance(inner, layers.Dense):
        return prod(inner.kernel.shape) * prod(layer.output_shape[1:-1])
    return 0
