"""Which models can lose filters, and what to change in those that can't."""

from typing import TYPE_CHECKING

from edgecifar.compress.preflight import opaque, require_one_image
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras

# Layers without weights, or with some for each channel, that never mix channels.
_CHANNELWISE = (
    "Activation",
    "ActivityRegularization",
    "AveragePooling2D",
    "BatchNormalization",
    "Cropping2D",
    "Dropout",
    "ELU",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "LeakyReLU",
    "MaxPooling2D",
    "PReLU",
    "ReLU",
    "Rescaling",
    "SpatialDropout2D",
    "ThresholdedReLU",
    "UpSampling2D",
    "ZeroPadding2D",
)
_STRUCTURAL = ("Concatenate", "Flatten", "InputLayer", "Reshape", "Softmax")
_MERGING = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")
_MAKING = ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")
_KNOWN = frozenset((*_CHANNELWISE, *_STRUCTURAL, *_MERGING, *_MAKING))


def require_prunable(model: "keras.Model") -> None:
    """Raise EdgecifarError, naming the layer and the mend, if `model` can't lose filters."""
    require_one_image(model, "pruned")
    for layer in model.layers:
        _require_known(layer)


def _require_known(layer: "keras.layers.Layer") -> None:
    kind = type(layer).__name__
    if kind.startswith("Quantize"):
        reason = "simulates int8: prune first, then quantize"
    elif hidden := opaque(layer):
        reason = hidden
    elif kind not in _KNOWN:
        reason = f"({kind}) isn't known to leave channels apart: replace it"
    elif getattr(layer, "data_format", "channels_last") == "channels_first":
        reason = "is channels_first: build the model with channels last"
    elif kind == "BatchNormalization" and list(layer.axis) != [len(layer.input_shape) - 1]:
        reason = "doesn't normalise the last axis: build the model with channels last"
    else:
        return
    raise EdgecifarError(f"layer {layer.name} {reason}")
