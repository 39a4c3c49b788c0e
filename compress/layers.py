"""Which Keras layer a part of a converted graph belongs to, by the names that converters keep."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgecifar.train.keras_files import is_quantization_aware

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.inspect import Operation

CONVERTED = "m"
"""What a model is called while it is converted.

Its name stands about a hundred times in a file's names of tensors: a short one saves 600 bytes.
"""

_JOINTS = re.compile("[; ]")
_WRAPPED = "quant_"  # what the quantization toolkit puts before a layer's name


def plain_name(layer: str) -> str:
    """Return a layer's name without what quantization in the loop put before it."""
    return layer.removeprefix(_WRAPPED)


@dataclass(frozen=True)
class Owners:
    """Tells the Keras layers that a tensor or an operation of a converted model was made of."""

    model: str
    layers: tuple[str, ...]  # in the order of the model, without the toolkit's `quant_`
    last: str  # the layer that puts out the probabilities
    wrapped: bool = True  # by the toolkit; else a layer may be called `quant_` by its author

    def plain(self, layer: str) -> str:
        """Return a layer's name without what quantization in the loop put before it."""
        return plain_name(layer) if self.wrapped else layer

    def named(self, name: str) -> tuple[str, ...]:
        """Return the layers that stand in a name, the first of the model first.

        A converter that fuses layers joins their names, as in `net/re_lu/Relu;net/conv2d/Conv2D`.
        """
        found = {self._layer(part) for part in _JOINTS.split(name)}
        return tuple(layer for layer in self.layers if layer in found)

    def put_out(self, tensor: str) -> str | None:
        """Return the layer whose output `tensor` is: of those fused in it, the last."""
        return next(reversed(self.named(tensor)), None)

    def of(self, operation: "Operation") -> tuple[str, ...]:
        """Return the layers fused into an operation of TFLite, the first of the model first.

        The converter renames what the file puts out, whose weights then still tell the layer.
        """
        for names in ([operation.output], operation.constants):
            if found := self.named(";".join(names)):
                return found
        return (self.last,) if operation.output.startswith("StatefulPartitionedCall") else ()

    def _layer(self, part: str) -> str | None:
        """Return the layer in `net/layer/…/operation`; a tensor may also be called `layer`."""
        for path in self._paths(part):
            fitting = [name for name in self.layers if path == name or path.startswith(f"{name}/")]
            if fitting:
                return max(fitting, key=len)  # names may have slashes in them
        return None

    def _paths(self, part: str) -> Iterator[str]:
        """Yield what follows the model's name, which may be within another's, or be a layer's."""
        steps = part.split("/")
        for index, step in enumerate(steps):
            if step in (self.model, CONVERTED):
                yield self.plain("/".join(steps[index + 1 :]))
        yield self.plain(part)


def owners_in(model: "keras.Model") -> Owners:
    """Return what tells the layers of `model` by the names in a file made of it."""
    import tf_keras as keras

    found = Owners(model.name, (), model.output_names[0], is_quantization_aware(model))
    layers = (each for each in model.layers if not isinstance(each, keras.layers.InputLayer))
    names = tuple(found.plain(layer.name) for layer in layers)
    return replace(found, layers=names, last=found.plain(found.last))
