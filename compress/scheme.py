"""How the quantization toolkit simulates int8 in each kind of layer, products of layers too."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras as keras


class Registry:
    """What the toolkit knows of kinds of layers, and of `Multiply`, which it doesn't know.

    A product is simulated as a sum is, by the range of what comes out, and TFLite computes both
    alike. Gates such as those of squeeze-and-excitation need no more.
    """

    def __init__(self, usual: Any):
        self._usual = usual

    def supports(self, layer: "keras.layers.Layer") -> bool:
        """Tell whether a layer can be simulated."""
        return self._usual.supports(_alike(layer))

    def get_quantize_config(self, layer: "keras.layers.Layer") -> Any:
        """Return the toolkit's QuantizeConfig for a layer."""
        return self._usual.get_quantize_config(_alike(layer))


def _alike(layer: "keras.layers.Layer") -> "keras.layers.Layer":
    from tf_keras import layers

    return layers.Add() if type(layer) is layers.Multiply else layer


def scheme() -> Any:
    """Return the toolkit's 8-bit scheme with that registry."""
    from tensorflow_model_optimization.quantization.keras.default_8bit import (
        Default8BitQuantizeScheme,
    )

    class Scheme(Default8BitQuantizeScheme):
        def get_quantize_registry(self) -> Registry:
            return Registry(super().get_quantize_registry())

    return Scheme()
