"""What no step can take apart, pruning or quantization alike, told before any work is done."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.graph import is_functional
from edgecifar.train.parsing import did_you_mean

if TYPE_CHECKING:
    import tf_keras as keras


def require_one_image(model: "keras.Model", done: str) -> None:
    """Raise EdgecifarError unless `model` is functional and takes one image of fixed size.

    `done` is what can't be done to it otherwise, such as `pruned`.
    """
    if not is_functional(model):
        raise EdgecifarError(f"a subclassed model can't be {done}: build it functionally")
    for kind, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise EdgecifarError(
                f"a model with {len(tensors)} {kind} can't be {done}: give the part that "
                "classifies one image"
            )
    shape = model.input_shape
    if None in shape[1:] or len(shape) != 4:
        raise EdgecifarError(
            f"the input shape {shape} isn't fixed height, width and channels: build the model "
            "with keras.Input((height, width, 3))"
        )


def require_known(names: Iterable[str], known: Collection[str]) -> None:
    """Raise EdgecifarError, with the nearest of the layers `known`, for a name that isn't there."""
    for name in names:
        if name not in known:
            raise EdgecifarError(f"no layer is called {name!r}{did_you_mean(name, known)}")


def opaque(layer: "keras.layers.Layer") -> str | None:
    """Return why it can't be told what `layer` computes, and the mend; None if it can."""
    import tf_keras as keras

    kind = type(layer).__name__
    if isinstance(layer, keras.Model):
        return "is a model inside the model: inline its layers"
    if kind == "PruneLowMagnitude":
        return "is still being pruned: strip it with tfmot.sparsity.keras.strip_pruning"
    if kind in ("TFOpLambda", "SlicingOpLambda", "Lambda"):
        return f"({kind}) hides what it computes: use a Keras layer, such as Add for `+`"
    if type(layer) is not getattr(keras.layers, kind, None):
        return f"({kind}) is a custom layer: replace it with Keras' own"
    return None
