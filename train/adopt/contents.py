"""What a model file may hold: Keras' own parts, and nothing that only code in it could compute."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecifar.runtime.errors import EdgecifarError

MODELS = ("Functional", "Model", "Sequential")
_ROOTS = ("keras", "tf_keras", "builtins")  # packages that the parts of a file may come from
_CODE = ("Lambda", "__lambda__")
_OPERATORS = ("TFOpLambda", "SlicingOpLambda")  # what `x / 255` and the like become in Keras 2
# TensorFlow's functions in such a layer are looked up by name, those that write files too.
_FUNCTIONS = ("__operators__", "image", "linalg", "math", "nn", "signal")
_PLAIN_FUNCTIONS = frozenset(
    [
        "cast",
        "clip_by_value",
        "concat",
        "convert_to_tensor",
        "expand_dims",
        "gather",
        "identity",
        "pad",
        "repeat",
        "reshape",
        "reverse",
        "slice",
        "split",
        "squeeze",
        "stack",
        "stop_gradient",
        "strided_slice",
        "tile",
        "transpose",
        "unstack",
        "where",
    ]
)
# Values that JSON has no word for, and settings that aren't layers.
_VALUES = frozenset(
    [
        "Policy",
        "DTypePolicy",
        "InputSpec",
        "TensorShape",
        "TypeSpec",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__tensor__",
        "__tuple__",
        "slice",
    ]
)
_TRAINING = ("compile_config", "training_config")  # not read from the file


@dataclass(frozen=True)
class Part:
    """A layer, or something that a layer is made with, as a config describes it."""

    kind: str
    module: str
    config: Any
    layer: str  # the name of the layer that it is or belongs to
    is_layer: bool

    @property
    def ours(self) -> bool:
        """Whether Keras 2 knows it and computes it itself."""
        import tf_keras as keras

        if self.kind in _OPERATORS:
            first, dot, _ = str(self.config.get("function")).partition(".")
            return first in (_FUNCTIONS if dot else _PLAIN_FUNCTIONS)
        if self.kind == "function":
            return isinstance(self.config, str) and hasattr(keras.activations, self.config)
        homes = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
        known = self.kind in MODELS or self.kind in _VALUES
        return known or any(isinstance(getattr(home, self.kind, None), type) for home in homes)


def require_known(config: dict[str, Any], path: Path, *, translated: bool = False) -> None:
    """Raise EdgecifarError for what only the code that wrote the file could compute.

    `config` is all that the file at `path` says of its model. What is `translated` from Keras 3
    may have other kinds of layers, which are looked at there.
    """
    kind = config["class_name"]
    if kind not in MODELS:
        raise EdgecifarError(
            f"{path} holds the subclassed model {kind}, whose code isn't in it: build the network "
            "with keras.Model(inputs, outputs) and save that"
        )
    for part in parts_of(config):
        what = f"layer {part.layer} of {path} ({part.kind})"
        if part.kind in _CODE:
            raise EdgecifarError(
                f"{what} holds Python code, which isn't run from files: use a Keras layer "
                "instead, such as Rescaling for pixel / 255"
            )
        if part.kind.startswith(("Quantize", "PruneLowMagnitude")):
            raise EdgecifarError(
                f"{what} is the optimization toolkit's: give the model from before it"
            )
        if part.module.split(".")[0] not in _ROOTS or not (translated or part.ours):
            raise EdgecifarError(
                f"{what} is a custom {'layer' if part.is_layer else 'part'}: build the model with "
                "Keras' own layers"
            )


def parts_of(value: Any, layer: str = "") -> Iterator[Part]:
    """Yield all that a config describes by a `class_name`, however deep inside other parts."""
    if isinstance(value, list):
        for item in value:
            yield from parts_of(item, layer)
    if not isinstance(value, dict):
        return
    if "class_name" in value:
        kind, config = str(value["class_name"]), value.get("config")
        named = isinstance(config, dict) and "name" in config
        layer = config["name"] if named else layer or kind
        yield Part(kind, str(value.get("module", "keras")), config, layer, named)
    for key, item in value.items():
        if key not in _TRAINING:
            yield from parts_of(item, layer)
