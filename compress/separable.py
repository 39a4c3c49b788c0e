"""Separable convolutions as the two that each of them is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras as keras

_KIND = "SeparableConv2D"


def depthwise_part(layer: str) -> str:
    """Return what `split` calls the first part of a separable convolution."""
    return f"{layer}_depthwise"


def split(model: "keras.Model") -> "keras.Model":
    """Return `model` with a depthwise and a 1x1 convolution for each separable one.

    The second has its name. The quantization toolkit splits them too, under names that other
    layers of a model from a file may have.
    """
    layers = {layer.name: layer for layer in model.layers}
    if not any(type(layer).__name__ == _KIND for layer in layers.values()):
        return model
    config = model.get_config()
    config["layers"] = [part for entry in config["layers"] for part in _parts(entry, layers)]
    parted = type(model).from_config(config)
    if not parted.built:
        parted.build(model.input_shape)
    for name, layer in layers.items():
        weights = layer.get_weights()
        if type(layer).__name__ == _KIND:
            parted.get_layer(depthwise_part(name)).set_weights(weights[:1])
            weights = weights[1:]
        parted.get_layer(name).set_weights(weights)
    return parted


def _parts(entry: dict[str, Any], known: "dict[str, keras.layers.Layer]") -> list[dict[str, Any]]:
    """Return the entries of a model's config that stand for that of one of the `known` layers."""
    from tf_keras import layers

    if entry["class_name"] != _KIND:
        return [entry]
    layer = known[entry["config"]["name"]]
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        name=depthwise_part(layer.name),
    )
    pointwise = layers.Conv2D(
        layer.filters, 1, use_bias=layer.use_bias, activation=layer.activation, name=layer.name
    )
    parts = [layers.serialize(part) for part in (depthwise, pointwise)]
    if "inbound_nodes" in entry:  # a functional model's
        read = (entry["inbound_nodes"], [[[depthwise.name, 0, 0, {}]]])
        for part, nodes in zip(parts, read, strict=True):
            part |= {"name": part["config"]["name"], "inbound_nodes": nodes}
    return parts
