"""Which Keras layer a tensor of a converted graph belongs to, by the names converters keep."""

import re
from collections.abc import Sequence

_SEPARATORS = re.compile(r"[/;: ]")
_WRAPPED = "quant_"  # what the quantization toolkit puts before a layer's name


def plain_name(layer: str) -> str:
    """Return a layer's name without what quantization in the loop put before it."""
    return layer.removeprefix(_WRAPPED)


def layers_in(name: str, layers: Sequence[str]) -> list[str]:
    """Return those of `layers`, in the order of the model, that stand in the name of a tensor.

    A converter that fuses layers joins their names, as in `net/re_lu/Relu;net/conv2d/Conv2D`.
    """
    parts = {plain_name(part) for part in _SEPARATORS.split(name)}
    return [layer for layer in layers if layer in parts]


def layer_of(tensor: str, layers: Sequence[str]) -> str | None:
    """Return the layer whose output `tensor` is: of those fused in it, the last."""
    found = layers_in(tensor, layers)
    return found[-1] if found else None
