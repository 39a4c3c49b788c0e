"""Takes quantizers out of a model prepared for fine-tuning, so that chosen layers stay in float."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from edgecifar.compress.layers import plain_name
from edgecifar.compress.wrappers import rebuilt
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras

_WRAPPER = "QuantizeWrapperV2"


def release(
    prepared: "keras.Model", layers: Collection[str], *, rewritten: Collection[str] = ()
) -> "keras.Model":
    """Return `prepared`, wrapped by the toolkit, with `layers` (their plain names) in float.

    Their weights are no longer rounded; nor is what they put out, unless a layer reads it that
    stays in int8. Raises EdgecifarError for a layer that was `rewritten` for the toolkit, or by it.
    """
    wrapped = {plain_name(layer.name): layer for layer in prepared.layers}
    for name in layers:
        if name not in wrapped or name in rewritten:
            raise EdgecifarError(
                f"layer {name} can't stay in float while fine-tuning, which rewrites it: export "
                "the float run itself with --int8 and --keep-float, or fine-tune that layer too"
            )
    config = prepared.get_config()
    for entry in config["layers"]:
        name = plain_name(entry["config"]["name"])
        if entry["class_name"] == _WRAPPER and name in layers:
            _release(entry["config"]["quantize_config"]["config"], wrapped[name], layers)
    return rebuilt(prepared, config)


def _release(
    quantizers: dict[str, Any], wrapper: "keras.layers.Layer", layers: Collection[str]
) -> None:
    """Change a wrapper's settings of what it quantizes."""
    changes: dict[str, Any] = {"weight_attrs": []}
    readers = [plain_name(node.layer.name) for node in wrapper.outbound_nodes]
    if readers and all(name in layers for name in readers):
        changes |= {"activation_attrs": [], "quantize_output": False}
    quantizers.update({key: value for key, value in changes.items() if key in quantizers})
