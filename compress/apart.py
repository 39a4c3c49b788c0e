"""Layers taken apart, where TFLite computes one of them in several operations.

Fine-tuning simulates int8 in what comes out of layers. What passes between the operations of one
has no range there, so that the file would compute it in float.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgecifar.train.adopt.copying import free_name

if TYPE_CHECKING:
    import tf_keras as keras

_Entry = dict[str, Any]  # what a model's config says of a layer


def layers_behind() -> "dict[str, keras.layers.Layer]":
    """Return, by their names, activations that TFLite fuses with nothing in int8, as layers."""
    from tf_keras import layers

    return {
        "leaky_relu": layers.LeakyReLU(0.2),  # as the function has it; the layer's default is 0.3
        "relu6": layers.ReLU(6.0),
        "swish": layers.Activation("swish"),
    }


def split(model: "keras.Model") -> tuple["keras.Model", set[str]]:
    """Return `model` with a layer for each operation, and the names of layers taken apart.

    The last part of a layer has its name, which others read. The toolkit would split separable
    convolutions too, but under names that other layers of a model from a file may have.
    """
    config, taken = model.get_config(), {layer.name for layer in model.layers}
    entries, apart = [], {}
    for entry in config["layers"]:
        name = entry["config"]["name"]
        parts = [*_parts(model.get_layer(name), entry)] if name in taken else [entry]
        if len(parts) == 1:  # or the input of a stack, which is none of its layers
            entries += parts
            continue
        for part in parts[:-1]:
            part["config"]["name"] = free_name(part["config"]["name"], taken)
            taken.add(part["config"]["name"])
        apart[name] = [part["config"]["name"] for part in parts]
        entries += _wired(parts, entry)
    if not apart:
        return model, set()
    parted = type(model).from_config(config | {"layers": entries})
    if not parted.built:
        parted.build(model.input_shape)
    for layer in model.layers:
        weights = layer.get_weights()
        for part in map(parted.get_layer, apart.get(layer.name, [layer.name])):
            count = len(part.weights)
            part.set_weights(weights[:count])
            weights = weights[count:]
    return parted, {*apart}


def _parts(layer: "keras.layers.Layer", entry: _Entry) -> Iterator[_Entry]:
    """Yield what computes a layer, one after the other; the layer's own entry if it does alone."""
    from tf_keras import layers

    config = layer.get_config()
    if isinstance(layer, (layers.Add, layers.Multiply)):
        for _ in _reads(entry)[2:]:
            yield _entry(type(layer), config, name=f"{layer.name}_part")
        yield entry
        return
    behind = None
    if not isinstance(layer, layers.Activation):
        activation = getattr(layer, "activation", None)
        behind = layers_behind().get(getattr(activation, "__name__", ""))
    own = {"activation": "linear", "name": f"{layer.name}_linear"} if behind else {}
    if isinstance(layer, layers.SeparableConv2D):
        yield _depthwise(config)
        yield _pointwise(config | own)
    elif behind:
        yield _entry(type(layer), config | own)
    else:
        yield entry
    if behind:
        yield _entry(type(behind), behind.get_config(), name=layer.name)


def _depthwise(config: dict[str, Any]) -> _Entry:
    from tf_keras import layers

    same = ("depth_multiplier", "dilation_rate", "dtype", "kernel_size", "padding", "strides")
    same += ("depthwise_constraint", "depthwise_regularizer", "trainable")
    kept = {key: config[key] for key in same}
    name = f"{config['name']}_depthwise"
    return _entry(layers.DepthwiseConv2D, kept, use_bias=False, name=name)


def _pointwise(config: dict[str, Any]) -> _Entry:
    from tf_keras import layers

    same = ("activation", "bias_constraint", "bias_regularizer", "dtype", "filters", "name")
    same += ("trainable", "use_bias")
    kept = {key: config[key] for key in same}
    renamed = {f"kernel_{of}": config[f"pointwise_{of}"] for of in ("constraint", "regularizer")}
    return _entry(layers.Conv2D, kept | renamed, kernel_size=1)


def _entry(kind: type, config: dict[str, Any], **changes: Any) -> _Entry:
    return {"class_name": kind.__name__, "config": config | changes}


def _reads(entry: _Entry) -> list:
    """Return what a layer of a functional model reads where it is called first."""
    nodes = entry.get("inbound_nodes")
    return nodes[0] if nodes else []


def _wired(parts: Sequence[_Entry], entry: _Entry) -> Iterator[_Entry]:
    """Yield the parts of a layer, each with what it reads, if it is one of a functional model."""
    if "inbound_nodes" not in entry:
        yield from parts
        return
    reads, more = _reads(entry)[:2], _reads(entry)[2:]  # of sums each part adds one
    for part in parts:
        name = part["config"]["name"]
        bare = {key: part[key] for key in ("class_name", "config")}
        yield bare | {"name": name, "inbound_nodes": [reads]}
        reads, more = [[name, 0, 0, {}], *more[:1]], more[1:]
