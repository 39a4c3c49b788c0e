"""What the quantization toolkit puts around layers, and how it calls the weights in there."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tf_keras as keras


# A filter whose largest weight is this part of its layer's adds, even after a batch normalisation
# that divides by next to nothing (the root of its epsilon), less than a step of int8.
_IDLE = 1e-4


def input_quantizer() -> type:
    """Return the kind of layer that quantizes the input of a model, which has no public name."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    with tfmot.quantization.keras.quantize_scope():
        return keras.utils.get_registered_object("QuantizeLayer")


def by_name(layer: "keras.layers.Layer") -> dict[str, Any]:
    """Return the variables of a layer, in a wrapper or not, by names such as `kernel`."""
    return {weight_name(weight): weight for weight in layer.weights}


def weight_name(weight: Any) -> str:
    """Return `kernel` for the variable `conv2d_1/kernel:0`."""
    return weight.name.partition(":")[0].rpartition("/")[2]


def rebuilt(prepared: "keras.Model", config: dict[str, Any]) -> "keras.Model":
    """Return the model of a changed `config` of `prepared`, with the weights that this has."""
    import tensorflow_model_optimization as tfmot

    for entry in config["layers"]:
        entry.pop("build_config", None)  # with it the input's quantizer gets its weights twice
    with tfmot.quantization.keras.quantize_scope():
        model = type(prepared).from_config(config)
    if not model.built:
        model.build(prepared.input_shape)
    for layer in model.layers:
        values = by_name(prepared.get_layer(layer.name))
        for name, weight in by_name(layer).items():
            weight.assign(values[name])
    return model


def widen_idle_ranges(model: "keras.Model") -> None:
    """Give channels with all but no weights the range of the others, in place.

    Pruning leaves some. Their own range is next to nothing, and a bias in its steps is a larger
    number than TFLite's 32 bits hold: the file would lose it, while `model` simulates that it has
    it. Zeros are zeros in any range, so that nothing changes of what is simulated.
    """
    from tensorflow_model_optimization.quantization.keras import QuantizeWrapper

    for wrapper in model.layers:
        if not isinstance(wrapper, QuantizeWrapper):
            continue
        for weight, _, limits in wrapper._weight_vars:
            low, high = (limits[end].numpy() for end in ("min_var", "max_var"))
            if low.shape != weight.shape[-1:]:
                continue
            largest = np.abs(weight.numpy()).reshape(-1, len(low)).max(axis=0)
            idle = largest <= _IDLE * largest.max()
            if idle.any():
                usual = 1.0 if idle.all() else np.median(np.maximum(-low, high)[~idle])
                limits["min_var"].assign(np.where(idle, -usual, low))
                limits["max_var"].assign(np.where(idle, usual, high))
