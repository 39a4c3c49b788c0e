"""Folding: parallel linear branches and batch normalisation become one 3x3 convolution."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tf_keras as keras

_SIZE = 3  # of the convolution into which everything goes


def folded_convolution(model: "keras.Model", name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of one convolution that stands for the layer `name` and its branches.

    The 3x3 layer `name` may have beside it the 1x1 layer `name_point`; both are followed by
    batch normalisation (`…_bn`). `name_identity_bn` normalises the input itself.
    """
    layer = model.get_layer(name)
    names = {found.name for found in model.layers}
    kernel, bias = _scaled(layer.kernel.numpy(), model.get_layer(f"{name}_bn"))
    corner = tuple(
        _padding_before(size, stride)
        for size, stride in zip(layer.input_shape[1:3], layer.strides, strict=True)
    )
    points = []
    if f"{name}_point" in names:
        point = model.get_layer(f"{name}_point").kernel.numpy()
        points.append(_scaled(point, model.get_layer(f"{name}_point_bn")))
    if f"{name}_identity_bn" in names:
        identity = np.eye(kernel.shape[2], dtype=kernel.dtype)[None, None]
        points.append(_scaled(identity, model.get_layer(f"{name}_identity_bn")))
    for point, offset in points:
        kernel[corner] += point[0, 0]
        bias = bias + offset
    return kernel, bias


def _scaled(
    kernel: np.ndarray, norm: "keras.layers.BatchNormalization"
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel [height, width, in, out] and bias [out] with `norm` folded into them."""
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return kernel * scale, beta - mean * scale


def _padding_before(size: int, stride: int) -> int:
    """Return how many zeros `same` puts before a row: that is where a 1x1 lies in the 3x3.

    With stride 2 and an even size it is none, and the 1x1 lies in the corner, not in the middle.
    """
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + _SIZE - size, 0) // 2
