"""Which models can be fine-tuned with quantization in the loop, and what to change in others.

The toolkit wraps layers of kinds that it knows. It knows batch normalisation only where that can be
folded into what comes before.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgecifar.compress.apart import layers_behind
from edgecifar.compress.preflight import opaque, require_one_image
from edgecifar.compress.scheme import scheme
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.graph import nodes_of

if TYPE_CHECKING:
    import tf_keras as keras

# Activations that come out as integers: inside a layer, and as a layer of their own.
_INSIDE = ("gelu", "linear", "relu", "sigmoid", "softmax", "tanh")
_ALONE = (*_INSIDE, "relu6", "swish")
# Behind a dense layer the toolkit takes batch normalisation, and TFLite computes both in float.
_FOLDING = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_WITH_KERNEL = (*_FOLDING, "Dense")
_LAYERS = ("LeakyReLU", "ReLU")  # which Keras takes as activations inside others too
_LEFT_IN_FLOAT = ("Conv2DTranspose",)  # by TFLite, though the toolkit takes it
_REWRITES = (
    (("ELU", "PReLU", "ThresholdedReLU"), "use ReLU or LeakyReLU"),
    (("Average", "Maximum", "Minimum", "Subtract"), "merge with Add, Multiply or Concatenate"),
    (
        ("GroupNormalization", "LayerNormalization", "UnitNormalization"),
        "use BatchNormalization right behind each convolution",
    ),
    (("AlphaDropout", "GaussianDropout", "GaussianNoise"), "use Dropout"),
    (("Normalization", "Rescaling"), "normalise as (pixel - 120) / 64 outside the model"),
    (("Conv2DTranspose",), "enlarge by UpSampling2D before a Conv2D"),
    (("CenterCrop", "Random", "Resizing"), "change the images outside the model"),
    (("GRU", "LSTM", "MultiHeadAttention", "SimpleRNN"), "use convolutions"),
)
_USUAL = "build it of convolutions, dense layers, pooling, ReLU, Add and Concatenate"


def require_quantizable(model: "keras.Model") -> None:
    """Raise EdgecifarError, naming the layer and the rewrite, if the toolkit can't take `model`."""
    require_one_image(model, "quantized")
    for layer in model.layers:
        if type(layer).__name__.startswith("Quantize"):
            reason = "simulates int8 already: quantize the model that this one was made of"
        else:
            reason = opaque(layer) or _unknown(layer)
        if reason:
            raise EdgecifarError(f"layer {layer.name} {reason}")
    for name, calls in Counter(node.layer.name for node in nodes_of(model)).items():
        if calls > 1 and _has_ranges(model.get_layer(name)):
            raise EdgecifarError(
                f"layer {name} is called {calls} times, whose ranges can't be told apart: give "
                "each call a layer of its own, or quantize after training with `edgecifar export "
                "--int8`"
            )
    for layer in _unfoldable(model):
        raise EdgecifarError(
            f"layer {layer.name} (BatchNormalization) can't be folded into a convolution: put it "
            "right behind one that has no activation and no other reader, replace it by a "
            "DepthwiseConv2D(1) with its scale and offset, which computes the same, or leave it out"
        )


def _has_ranges(layer: "keras.layers.Layer") -> bool:
    """Tell whether the toolkit quantizes what a layer computes or puts out, or its weights."""
    registry = scheme().get_quantize_registry()
    if layer.weights or not registry.supports(layer):
        return bool(layer.weights)
    found = registry.get_quantize_config(layer)
    return bool(found.get_output_quantizers(layer) or found.get_activations_and_quantizers(layer))


def _unknown(layer: "keras.layers.Layer") -> str | None:
    """Return why the toolkit has no quantizers for a layer, and what to use; None if it has."""
    kind = type(layer).__name__
    activation = getattr(layer, "activation", None)
    named = getattr(activation, "__name__", type(activation).__name__)
    if kind == "Activation" and named not in _ALONE:
        return f"({named}) has no int8 form: use relu, relu6, swish or gelu"
    if kind in _WITH_KERNEL and named not in (*_INSIDE, *layers_behind()):
        return f"has the activation {named}, which has no int8 form: {_activation_for(named)}"
    if kind == "ReLU" and not _is_fused(layer):
        return "bounds or bends ReLU in a way that has no int8 form: use ReLU() or ReLU(6.0)"
    if kind in ("BatchNormalization", "InputLayer", "SeparableConv2D"):
        return None
    known = scheme().get_quantize_registry().supports(layer)
    if known and kind not in _LEFT_IN_FLOAT:
        return None
    rewrite = next((text for kinds, text in _REWRITES if kind.startswith(kinds)), _USUAL)
    return (
        f"({kind}) can't be fine-tuned in int8: {rewrite}, or quantize after training with "
        "`edgecifar export --int8`"
    )


def _activation_for(named: str) -> str:
    return "put that layer behind it" if named in _LAYERS else "use relu, swish or gelu"


def _is_fused(layer: "keras.layers.ReLU") -> bool:
    """Tell whether TFLite has the layer as the activation of an operation."""
    return layer.max_value in (None, 6.0) and not layer.negative_slope and not layer.threshold


def _unfoldable(model: "keras.Model") -> Iterator["keras.layers.Layer"]:
    """Yield batch normalisations that aren't all that reads a layer which they can be folded in."""
    nodes = nodes_of(model)
    readers = Counter(source.name for node in nodes for source in _sources(node))
    calls = Counter(node.layer.name for node in nodes)
    for node in nodes:
        if type(node.layer).__name__ != "BatchNormalization":
            continue
        (source,) = _sources(node)
        linear = getattr(getattr(source, "activation", None), "__name__", "") == "linear"
        alone = readers[source.name] == calls[node.layer.name] == 1
        if type(source).__name__ not in _FOLDING or not linear or not alone:
            yield node.layer


def _sources(node) -> "list[keras.layers.Layer]":
    found = node.inbound_layers
    return found if isinstance(found, list) else [found]
