"""Zeros in kernels that must outlive further training."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.wrappers import weight_name
from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import tf_keras as keras

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
# Weights that nobody pruned are zero by chance once in millions: a dead filter may leave a few.
_LEAST_ZEROS = 0.05
LEAST_SHARE = 2 * _LEAST_ZEROS  # of zeros to ask for

Masks = Mapping[tuple[str, str], np.ndarray]  # by (layer, weight): float32, 0 where zero stays


def zeros_of(model: "keras.Model") -> Masks:
    """Return the masks of all kernels that were pruned weight by weight."""
    values = {key: variable.numpy() for key, variable in kernels(model)}
    return {
        key: (value != 0).astype(np.float32)
        for key, value in values.items()
        if (value == 0).mean() > _LEAST_ZEROS
    }


@dataclass(frozen=True)
class Held:
    """A kernel whose zeros are held."""

    layer: str
    variable: Any
    mask: np.ndarray


def hold(model: "keras.Model", masks: Masks) -> list[Held]:
    """Keep zeros zero in all further training of `model`, and return what `require_held` checks.

    They are set anew within each training step, right after the optimizer's update, so that what
    follows a step (averages, checkpoints, validation) never sees anything else. `model` may be
    wrapped for quantization. Raises EdgecifarError for a masked layer that it doesn't have.
    """
    variables = dict(kernels(model))
    held = [Held(key[0], _find(variables, key, mask), mask) for key, mask in masks.items()]
    for item in held:
        # The optimizer applies what Keras' `kernel_constraint` would have put there; that one
        # would go into the saved model, which then loads only with this code. In mixed precision
        # it asks the variable within.
        getattr(item.variable, "_variable", item.variable)._constraint = _Mask(item.mask)
    return held


def hold_still(model: "keras.Model", name: str) -> None:
    """Keep the weights of the layer called `name`, if there is one, in all further training.

    Wrapped for quantization a frozen layer's weights are trained all the same.
    """
    for layer in model.layers:
        if getattr(layer, "layer", layer).name == name:
            for variable in layer.trainable_weights:
                getattr(variable, "_variable", variable)._constraint = _Still(variable.numpy())


def require_held(held: Iterable[Held]) -> None:
    """Raise EdgecifarError, naming the layer, if a zero is gone."""
    for item in held:
        lost = np.count_nonzero(item.variable.numpy()[item.mask == 0])
        if lost:
            raise EdgecifarError(f"{lost} pruned weights of layer {item.layer} are no longer zero")


def kernels(model: "keras.Model") -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield ((layer, weight), variable) of every kernel; wrapped layers under their own names."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        for variable in layer.weights:
            name = weight_name(variable)
            if name in _KERNELS:
                yield (inner.name, name), variable


def _find(variables: Mapping[tuple[str, str], Any], key: tuple[str, str], mask: np.ndarray) -> Any:
    """Return the variable of a mask: by its name, else the only one with those zeros.

    Quantization takes some layers apart.
    """
    if key in variables:
        return variables[key]
    fitting = [
        variable
        for variable in variables.values()
        if tuple(variable.shape) == mask.shape and not variable.numpy()[mask == 0].any()
    ]
    if len(fitting) != 1:
        raise EdgecifarError(f"the zeros of layer {key[0]} can't be kept: the layer was rewritten")
    return fitting[0]


class _Mask:
    """A constraint in Keras' sense."""

    def __init__(self, mask: np.ndarray):
        self._mask = mask

    def __call__(self, weight):
        return weight * self._mask


class _Still:
    """A constraint that puts back what was there."""

    def __init__(self, values: np.ndarray):
        self._values = values

    def __call__(self, weight):
        return self._values
