"""Flat copies of a model: its layers one by one, those of models inside it too."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.graph import arguments_of, nodes_of

if TYPE_CHECKING:
    import tf_keras as keras

SHIFT = "pixel_shift"  # the layer that may be put ahead of all others


def free_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, with as many underscores behind it as set it apart from those `taken`."""
    while name in taken:
        name += "_"
    return name


def copied(
    model: "keras.Model",
    image_size: tuple[int, int],
    *,
    without: Collection[str] = (),
    changes: Mapping[str, dict[str, Any]] | None = None,
    shift: tuple[np.ndarray, np.ndarray] | None = None,
) -> "keras.Model":
    """Return a flat copy without some layers, with changed configs, behind `shift`.

    Of a layer without weights each call has a copy of its own: what it puts out has other ranges
    there, and is in int8 or not by itself. `shift` are the three weights and biases of the layer
    SHIFT.
    """
    import tf_keras as keras

    inputs = x = keras.Input((*image_size, 3))
    if shift:
        layer = keras.layers.DepthwiseConv2D(1, trainable=False, name=SHIFT)
        x = layer(x)
        layer.set_weights([shift[0][None, None, :, None], shift[1]])
    return keras.Model(inputs, _Copy(without, changes or {})(model, x), name=model.name)


class _Copy:
    """Applies copies of a model's layers to a tensor, those of models inside it one by one."""

    def __init__(self, without: Collection[str], changes: Mapping[str, dict[str, Any]]):
        self._without, self._changes = without, changes
        self._layers: dict[int, keras.layers.Layer] = {}
        self._names: set[str] = {SHIFT}
        self._unfilled: set[int] = set()  # the originals of copies without weights yet

    def __call__(self, model: "keras.Model", tensor: Any) -> Any:
        import tf_keras as keras

        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise EdgecifarError(
                f"layer {model.name} is a model with several inputs or outputs: inline its layers"
            )
        tensors = {str(id(model.inputs[0])): tensor}
        for node in nodes_of(model):
            if node.is_input:
                continue
            arguments, options = arguments_of(node, tensors)
            if isinstance(node.layer, keras.Model):
                result = self(node.layer, arguments[0])
            elif node.layer.name in self._without:
                result = arguments[0]
            else:
                copy = self._copy(node.layer)
                result = copy(*arguments, **options)
                if id(node.layer) in self._unfilled:
                    self._unfilled.remove(id(node.layer))
                    _fill(copy, node.layer)
            (key,) = node.flat_output_ids
            tensors[key] = result
        return tensors[str(id(model.outputs[0]))]

    def _copy(self, layer: "keras.layers.Layer") -> Any:
        """Return the copy of a layer, the same at each of its calls if it has weights."""
        if id(layer) not in self._layers or not layer.weights:
            name = free_name(layer.name, self._names)  # two models inside may have used the same
            self._names.add(name)
            settings = {"name": name, "trainable": True, "dtype": "float32"}
            config = layer.get_config() | settings | self._changes.get(layer.name, {})
            copy = type(layer).from_config(config)
            if layer.weights:
                self._build(copy, layer)
            self._layers[id(layer)] = copy
        return self._layers[id(layer)]

    def _build(self, copy: "keras.layers.Layer", layer: "keras.layers.Layer") -> None:
        """Build a copy as its original was, and fill it unless it is made for its first call."""
        shapes = [shape[1:] for shape in _as_list(layer.get_input_shape_at(0))]
        built = [(None, *shape) for shape in shapes]
        copy.build(built if len(built) > 1 else built[0])
        if copy.weights:
            _fill(copy, layer)
        else:  # as of attention, which knows its shapes from all that it is given
            self._unfilled.add(id(layer))


def _fill(copy: "keras.layers.Layer", layer: "keras.layers.Layer") -> None:
    """Give a copy the weights of its original, and a new bias of zeros."""
    weights = layer.get_weights()
    missing = copy.weights[len(weights) :]
    copy.set_weights([*weights, *(np.zeros(weight.shape) for weight in missing)])


def _as_list(shapes: Any) -> list:
    return shapes if isinstance(shapes, list) else [shapes]
