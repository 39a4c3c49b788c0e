"""Which models can lose filters, and what to change in those that can't."""

from typing import TYPE_CHECKING

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
    if not getattr(model, "_is_graph_network", False):
        raise EdgecifarError("a subclassed model can't be pruned: build it functionally")
    for kind, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise EdgecifarError(
                f"a model with {len(tensors)} {kind} can't be pruned: prune the part that "
                "classifies one image"
            )
    shape = model.input_shape
    if None in shape[1:] or len(shape) != 4:
        raise EdgecifarError(
            f"the input shape {shape} isn't fixed height, width and channels: build the model "
            "with keras.Input((height, width, 3))"
        )
    for layer in model.layers:
        _require_known(layer)


def _require_known(layer: "keras.layers.Layer") -> None:
    import tf_keras as keras

    kind = type(layer).__name__
    if isinstance(layer, keras.Model):
        reason = "is a model inside the model: inline its layers"
    elif kind.startswith("Quantize"):
        reason = "simulates int8: prune first, then quantize"
    elif kind == "PruneLowMagnitude":
        reason = "is still being pruned: strip it with tfmot.sparsity.keras.strip_pruning"
    elif kind in ("TFOpLambda", "SlicingOpLambda", "Lambda"):
        reason = f"({kind}) hides what it computes: use a Keras layer, such as Add for `+`"
    elif type(layer) is not getattr(keras.layers, kind, None):
        reason = f"({kind}) is a custom layer: replace it with Keras' own"
    elif kind not in _KNOWN:
        reason = f"({kind}) isn't known to leave channels apart: replace it"
    elif getattr(layer, "data_format", "channels_last") == "channels_first":
        reason = "is channels_first: build the model with channels last"
    elif kind == "BatchNormalization" and list(layer.axis) != [len(layer.input_shape) - 1]:
        reason = "doesn't normalise the last axis: build the model with channels last"
    else:
        return
    raise EdgecifarError(f"layer {layer.name} {reason}")
