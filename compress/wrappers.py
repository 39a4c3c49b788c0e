"""What the quantization toolkit puts around layers, and how it calls the weights in there."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras as keras


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
