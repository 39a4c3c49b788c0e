"""Multiply-accumulates of a Keras model, the usual measure of a network's work."""

from collections import defaultdict
from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from edgecifar.train.graph import nodes_of

if TYPE_CHECKING:
    import tf_keras as keras


def count_macs(model: "keras.Model") -> int:
    """Return the multiply-accumulates of one image through convolutions and dense layers.

    Additions of biases, batch normalisation (folded at export), pooling and activations are left
    out, as in MLPerf Tiny's and most published counts.
    """
    return sum(_weights_used(layer) * places(outputs) for layer, outputs in calls(model))


def calls(model: "keras.Model") -> "list[tuple[keras.layers.Layer, list[tuple]]]":
    """Return each layer with the shape of its output at each of its calls in `model`."""
    found = defaultdict(list)
    for node in nodes_of(model):
        shape = node.output_shapes
        found[node.layer.name].append(shape[0] if isinstance(shape, list) else shape)
    return [(layer, found[layer.name]) for layer in model.layers]


def places(outputs: Iterable[tuple]) -> int:
    """Return at how many positions outputs of these shapes, batch first, have all channels."""
    return sum(prod(shape[1:-1]) for shape in outputs)


def _weights_used(layer: "keras.layers.Layer") -> int:
    """Return the kernel's weights that one position of the output takes, 0 without a kernel."""
    from tf_keras import layers

    inner = getattr(layer, "layer", layer)  # quantization wraps the layer it stands for
    if isinstance(inner, layers.DepthwiseConv2D):
        return prod(inner.depthwise_kernel.shape)
    if isinstance(inner, layers.SeparableConv2D):
        return prod(inner.depthwise_kernel.shape) + prod(inner.pointwise_kernel.shape)
    if isinstance(inner, layers.Conv2D | layers.Dense):
        return prod(inner.kernel.shape)
    return 0
