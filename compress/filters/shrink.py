"""Build the smaller, dense model that is left when filters are removed."""

from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.filters.channels import ChannelGraph, LayerChannels

if TYPE_CHECKING:
    import tf_keras as keras


def shrink(model: "keras.Model", graph: ChannelGraph, kept: np.ndarray) -> "keras.Model":
    """Return a copy of `model` without the filters of the units that `kept`, bool [units], drops.

    It computes what `model` does with those filters zeroed, batch normalisation included. Layers
    keep their names.
    """
    import tf_keras as keras

    def smaller(layer):
        config = layer.get_config()
        channels = graph.layers.get(layer.name)  # a Sequential's InputLayer may be unlisted
        if channels is not None:
            config |= _config(layer, int(kept[channels.outputs].sum()))
        return type(layer).from_config(config)

    smaller_model = keras.models.clone_model(model, clone_function=smaller)
    for layer in model.layers:
        if layer.weights:
            weights = _weights(layer, graph.layers[layer.name], kept)
            smaller_model.get_layer(layer.name).set_weights(weights)
    return smaller_model


def _config(layer: "keras.layers.Layer", channels: int) -> dict:
    """Return the entries of a layer's config that say how many channels it makes."""
    from tf_keras import layers

    if isinstance(layer, layers.DepthwiseConv2D):
        return {}
    if isinstance(layer, layers.Conv2D | layers.SeparableConv2D):
        return {"filters": channels}
    if isinstance(layer, layers.Dense):
        return {"units": channels}
    if isinstance(layer, layers.Reshape):
        return {"target_shape": (*layer.output_shape[1:-1], channels)}
    return {}


def _weights(
    layer: "keras.layers.Layer", channels: LayerChannels, kept: np.ndarray
) -> list[np.ndarray]:
    """Return the weights of the channels that stay, in the layer's own order."""
    from tf_keras import layers

    read, made = kept[channels.inputs], kept[channels.outputs]
    weights = layer.get_weights()
    if isinstance(layer, layers.DepthwiseConv2D):  # height, width, channel, multiplier
        cut = [weights[0][:, :, read], *(bias[made] for bias in weights[1:])]
    elif isinstance(layer, layers.SeparableConv2D):
        between = np.repeat(read, layer.depth_multiplier)
        pointwise = weights[1][:, :, between][..., made]
        cut = [weights[0][:, :, read], pointwise, *(bias[made] for bias in weights[2:])]
    elif isinstance(layer, layers.Conv2D):
        kernel = weights[0] if layer.groups > 1 else weights[0][:, :, read]
        cut = [kernel[..., made], *(bias[made] for bias in weights[1:])]
    elif isinstance(layer, layers.Dense):
        cut = [weights[0][read][:, made], *(bias[made] for bias in weights[1:])]
    else:  # one value a channel, or one for all (PReLU with shared axes)
        cut = [w[..., made] if w.shape[-1] == len(made) else w for w in weights]
    return cut
