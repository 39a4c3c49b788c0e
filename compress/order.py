"""The order of inputs in a model that the quantization toolkit has prepared."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgecifar.compress.layers import plain_name
from edgecifar.compress.wrappers import input_quantizer, rebuilt
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras

_Source = tuple[str, int, int]  # the name of a layer, which of its calls, which of its outputs


def restore_order(prepared: "keras.Model", model: "keras.Model") -> "keras.Model":
    """Return `prepared`, made of `model` by the toolkit, with the inputs of its layers in order.

    The toolkit moves what it rewrites, such as convolution, norm and ReLU, behind what it doesn't:
    a Concatenate then gives the channels to the wrong weights. Raises EdgecifarError if a layer
    reads others than it did.
    """
    asked = {_name(entry): [*_sources(entry)] for entry in model.get_config()["layers"]}
    config, moved = prepared.get_config(), False
    kind = input_quantizer().__name__
    # What reads the pixels reads them behind their quantizer.
    pixels = {_name(e): source[0] for e in config["layers"] if e["class_name"] == kind
              for source in _sources(e)}  # fmt: skip
    for entry in config["layers"]:
        found = [*_sources(entry)]
        if len(found) < 2:
            continue
        named = [(pixels.get(name, name), *which) for name, *which in found]
        wanted = asked.get(_name(entry), [])
        if sorted(wanted) != sorted(named):
            raise EdgecifarError(
                f"layer {_name(entry)} can't be fine-tuned in int8: the quantization toolkit "
                "rewrites what it reads; quantize after training with `edgecifar export --int8`"
            )
        (node,) = entry["inbound_nodes"]
        entry["inbound_nodes"] = [[node[named.index(source)] for source in wanted]]
        moved |= named != wanted
    return rebuilt(prepared, config) if moved else prepared


def _name(entry: dict[str, Any]) -> str:
    return plain_name(entry["config"]["name"])


def _sources(entry: dict[str, Any]) -> Iterator[_Source]:
    """Yield what a layer that is called once reads, in its order; nothing of others."""
    nodes = entry.get("inbound_nodes", ())
    for layer, call, output, *_ in nodes[0] if len(nodes) == 1 else ():
        yield plain_name(layer), call, output
