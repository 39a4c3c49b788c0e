"""Takes quantizers out of a model prepared for fine-tuning, so that chosen layers stay in float."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from edgecifar.compress.layers import plain_name
from edgecifar.compress.wrappers import by_name
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras

_WRAPPER = "QuantizeWrapperV2"


def release(prepared: "keras.Model", layers: Collection[str]) -> "keras.Model":
    """Return `prepared`, wrapped by the toolkit, with `layers` (their plain names) in float.

    Their weights are no longer rounded; nor is what they put out, unless a layer reads it that
    stays in int8. Raises EdgecifarError for a layer that the toolkit has rewritten.
    """
    import tensorflow_model_optimization as tfmot

    wrapped = {plain_name(layer.name): layer for layer in prepared.layers}
    for name in layers:
        if name not in wrapped:
            raise EdgecifarError(
                f"layer {name} can't stay in float while fine-tuning, the quantization toolkit "
                "rewrites it: give --keep-float to `edgecifar export` instead"
            )
    config = prepared.get_config()
    for entry in config["layers"]:
        entry.pop("build_config", None)  # with it the input's quantizer gets its weights twice
        name = plain_name(entry["config"]["name"])
        if entry["class_name"] == _WRAPPER and name in layers:
            _release(entry["config"]["quantize_config"]["config"], wrapped[name], layers)
    with tfmot.quantization.keras.quantize_scope():
        released = type(prepared).from_config(config)
    if not released.built:
        released.build(prepared.input_shape)
    for layer in released.layers:
        values = by_name(prepared.get_layer(layer.name))
        for name, weight in by_name(layer).items():
            weight.assign(values[name])
    return released


def _release(
    quantizers: dict[str, Any], wrapper: "keras.layers.Layer", layers: Collection[str]
) -> None:
    """Change a wrapper's settings of what it quantizes."""
    changes: dict[str, Any] = {"weight_attrs": []}
    readers = [plain_name(node.layer.name) for node in wrapper.outbound_nodes]
    if readers and all(name in layers for name in readers):
        changes |= {"activation_attrs": [], "quantize_output": False}
    quantizers.update({key: value for key, value in changes.items() if key in quantizers})
