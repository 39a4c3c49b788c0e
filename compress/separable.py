"""Separable convolutions as the two that each of them is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgecifar.train.adopt.copying import free_name

if TYPE_CHECKING:
    import tf_keras as keras


def split(model: "keras.Model") -> tuple["keras.Model", dict[str, str]]:
    """Return `model` with a depthwise and a 1x1 convolution for each separable one.

    The second has its name; of the first the names are returned too, by that. The quantization
    toolkit splits them likewise, under names that other layers of a model from a file may have.
    """
    from tf_keras import layers

    named = {layer.name: layer for layer in model.layers}
    apart = {
        name: free_name(f"{name}_depthwise", named)
        for name, layer in named.items()
        if isinstance(layer, layers.SeparableConv2D)
    }
    if not apart:
        return model, apart
    config = model.get_config()
    config["layers"] = [part for entry in config["layers"] for part in _parts(entry, named, apart)]
    parted = type(model).from_config(config)
    if not parted.built:
        parted.build(model.input_shape)
    for name, layer in named.items():
        weights = layer.get_weights()
        if name in apart:
            parted.get_layer(apart[name]).set_weights(weights[:1])
            weights = weights[1:]
        parted.get_layer(name).set_weights(weights)
    return parted, apart


def _parts(
    entry: dict[str, Any], named: "Mapping[str, keras.layers.Layer]", apart: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the entries of a model's config that stand for that of one layer."""
    from tf_keras import layers

    name = entry["config"]["name"]
    if name not in apart:
        return [entry]
    layer = named[name]
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        trainable=layer.trainable,
        name=apart[name],
    )
    pointwise = layers.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        activation=layer.activation,
        kernel_regularizer=layer.pointwise_regularizer,
        kernel_constraint=layer.pointwise_constraint,
        bias_regularizer=layer.bias_regularizer,
        bias_constraint=layer.bias_constraint,
        trainable=layer.trainable,
        name=name,
    )
    parts = [layers.serialize(part) for part in (depthwise, pointwise)]
    if "inbound_nodes" in entry:  # a functional model's
        read = (entry["inbound_nodes"], [[[depthwise.name, 0, 0, {}]]])
        for part, nodes in zip(parts, read, strict=True):
            part |= {"name": part["config"]["name"], "inbound_nodes": nodes}
    return parts
