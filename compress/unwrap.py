"""A model fine-tuned with quantization in the loop, taken out of its wrappers again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.wrappers import by_name, input_quantizer, weight_name

if TYPE_CHECKING:
    import tf_keras as keras

# Where the toolkit keeps the range of what a layer puts out, by its kind.
_RANGES = (("output_min", "output_max"), ("post_activation_min", "post_activation_max"))


@dataclass(frozen=True)
class Unwrapped:
    """A plain Keras model, and by the name of a layer what quantizers have found for it.

    `ranges` are (low, high) of its output, `steps` how many steps of int8 the largest weight of
    each channel is: int [channels] of its kernel.
    """

    model: "keras.Model"
    ranges: dict[str, tuple[float, float]]
    steps: dict[str, np.ndarray]


def unwrap(model: "keras.Model") -> Unwrapped:
    """Return the plain model that the fine-tuned `model` simulates the quantization of.

    Its kernels have the values that the quantizers give them. In a convolution the largest of each
    channel is 127 steps, so that whoever quantizes them again, channel by channel, finds the same
    int8 numbers; in others, whose channels share a step, it may be fewer.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras
    from tensorflow_model_optimization.quantization.keras import QuantizeWrapper

    of_input = input_quantizer()

    def plain(layer: "keras.layers.Layer") -> "keras.layers.Layer":
        if isinstance(layer, of_input):  # of the input, whose values lie on its steps
            return keras.layers.Activation("linear", name=layer.name)
        inner = layer.layer if isinstance(layer, QuantizeWrapper) else layer
        return type(inner).from_config(inner.get_config())

    with tfmot.quantization.keras.quantize_scope():
        bare = keras.models.clone_model(model, clone_function=plain)
    ranges, steps = {}, {}
    for layer in model.layers:
        if isinstance(layer, QuantizeWrapper):
            plain_layer = bare.get_layer(layer.layer.name)
            _copy_weights(layer, plain_layer)
            steps |= _steps(layer, plain_layer)
            ranges |= _range(layer)
        elif not isinstance(layer, of_input):
            bare.get_layer(layer.name).set_weights(layer.get_weights())
    return Unwrapped(bare, ranges, steps)


def _copy_weights(wrapper: "keras.layers.Layer", layer: "keras.layers.Layer") -> None:
    values = by_name(wrapper)
    for weight, quantizer, limits in wrapper._weight_vars:
        values[weight_name(weight)] = quantizer(weight, False, weights=limits)
    layer.set_weights([values[weight_name(weight)].numpy() for weight in layer.weights])


def _steps(wrapper: "keras.layers.Layer", layer: "keras.layers.Layer") -> dict[str, np.ndarray]:
    for weight, _, limits in wrapper._weight_vars:
        values = by_name(layer)[weight_name(weight)].numpy()
        step = np.maximum(limits["max_var"].numpy(), -limits["min_var"].numpy()) / 127
        if weight_name(weight) == "depthwise_kernel":  # its channels are the last two axes
            values = values.reshape(*values.shape[:2], -1)
        largest = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
        steps = np.maximum(np.resize(step, len(largest)), 1e-12)  # the last axis alone has its own
        return {layer.name: np.rint(largest / steps).astype(int)}
    return {}


def _range(wrapper: "keras.layers.Layer") -> dict[str, tuple[float, float]]:
    values = by_name(wrapper)
    for low, high in _RANGES:
        if low in values:
            return {wrapper.layer.name: (float(values[low].numpy()), float(values[high].numpy()))}
    return {}
