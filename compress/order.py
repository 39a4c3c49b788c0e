"""The order of inputs in a model that the quantization toolkit has prepared."""

from typing import TYPE_CHECKING, Any

from edgecifar.compress.layers import plain_name
from edgecifar.compress.wrappers import rebuilt
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras


def restore_order(prepared: "keras.Model", model: "keras.Model") -> "keras.Model":
    """Return `prepared`, made of `model` by the toolkit, with the inputs of its layers in order.

    The toolkit moves what it rewrites, such as convolution, norm and ReLU, behind what it doesn't:
    a Concatenate then gives the channels to the wrong weights. Raises EdgecifarError if a layer
    reads others than it did.
    """
    asked = {_name(entry): _sources(entry) for entry in model.get_config()["layers"]}
    config, moved = prepared.get_config(), False
    for entry in config["layers"]:
        found = {plain_name(source[0]): source for source in _sources(entry)}
        if len(found) < 2:
            continue
        names = [source[0] for source in asked.get(_name(entry), ())]
        if sorted(names) != sorted(found):
            raise EdgecifarError(
                f"layer {_name(entry)} can't be fine-tuned in int8: the quantization toolkit "
                "rewrites what it reads; quantize after training with `edgecifar export --int8`"
            )
        moved |= names != [*found]
        entry["inbound_nodes"] = [[found[name] for name in names]]
    return rebuilt(prepared, config) if moved else prepared


def _name(entry: dict[str, Any]) -> str:
    return plain_name(entry["config"]["name"])


def _sources(entry: dict[str, Any]) -> list[list]:
    """Return what the only call of a layer reads, each as [layer, call, output, options]."""
    return (entry.get("inbound_nodes") or [[]])[0]
