"""Walking over the calls of layers that a Keras model is made of."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras as keras


def readers_of(model: "keras.Model", key: str) -> list:
    """Return the calls of layers that read the tensor called `key`; none for the last one."""
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    return [node for node in nodes if not node.is_input and key in node.flat_input_ids]


def arguments_of(node: Any, tensors: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Return what a call of a layer takes, with `tensors` for those it was built with."""
    # Keras pops the tensors off lists, which hold one for each reader.
    read = node.flat_input_ids
    arguments, options = node.map_arguments({key: [tensors[key]] * len(read) for key in read})
    return arguments, {key: value for key, value in options.items() if key != "training"}
