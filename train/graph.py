"""Walking over the calls of layers that a functional Keras model is made of.

Keras has no public way to them: what is private of its graph is used here alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras as keras


def is_functional(model: "keras.Model") -> bool:
    """Tell whether `model` was built of layers' calls: Sequential or functional, not subclassed."""
    return getattr(model, "_is_graph_network", False)


def nodes_of(model: "keras.Model") -> list:
    """Return the calls of layers in a functional model, each behind those that it reads from."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def readers_of(model: "keras.Model", key: str) -> list:
    """Return the calls of layers that read the tensor called `key`; none for the last one."""
    nodes = nodes_of(model)
    return [node for node in nodes if not node.is_input and key in node.flat_input_ids]


def arguments_of(node: Any, tensors: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Return what a call of a layer takes, with `tensors` for those it was built with."""
    # Keras pops the tensors off lists, which hold one for each reader.
    read = node.flat_input_ids
    arguments, options = node.map_arguments({key: [tensors[key]] * len(read) for key in read})
    return arguments, {key: value for key, value in options.items() if key != "training"}
