"""Models that Keras 3 wrote, built again in Keras 2, which the optimization toolkit needs.

Keras 3 itself, which comes with TensorFlow, reads the file. What it says of the layers is put into
Keras 2's words; that both compute the same is checked, not believed.
"""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.keras_files import first_line

if TYPE_CHECKING:
    import tf_keras as keras

_MODELS = ("Functional", "Sequential")
# The start of training, and what only training looks at.
_UNUSED = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {
    ("InputLayer", "batch_shape"): "batch_input_shape",
    ("LeakyReLU", "negative_slope"): "alpha",
}
# What Keras 2 always does, or, as to what fills a frame, never.
_IDLE = {"data_format": "channels_last", "fill_mode": "constant"}
# Functions of one name that Keras 2 computes otherwise, and what to take instead.
_OTHERWISE = {"hard_sigmoid": "sigmoid"}
# Operations that are layers: of two tensors, and of a tensor and a number as a scale and an offset,
# by whether the tensor comes first.
_MERGES = ("Add", "Multiply", "Subtract")
_SCALES: dict[tuple[str, bool], Callable[[float], tuple[float, float]]] = {
    ("Add", True): lambda number: (1.0, number),
    ("Add", False): lambda number: (1.0, number),
    ("Multiply", True): lambda number: (number, 0.0),
    ("Multiply", False): lambda number: (number, 0.0),
    ("Subtract", True): lambda number: (1.0, -number),
    ("Subtract", False): lambda number: (-1.0, number),
    ("TrueDivide", True): lambda number: (1 / number, 0.0),
}
_SIDE = 32  # pixels of the noise on which both are compared, where the model leaves them open
# Both sum in float32, in another order where kernels differ.
_TOLERANCE = 1e-4


def load_keras3(path: Path, version: str) -> "keras.Model":
    """Return the model that Keras 3 wrote to `path` (.keras or .h5) as one of Keras 2.

    Raises EdgecifarError with the way out if a layer has no like in Keras 2 or if the two models
    don't compute the same.
    """
    theirs = _read(path, version)
    try:
        from keras.saving import serialize_keras_object

        ours = _build(serialize_keras_object(theirs))
        ours.set_weights(theirs.get_weights())
        for layer in theirs._flatten_layers():
            layer.dtype_policy = "float32"  # as ours computes, whatever it was trained in
        difference = _difference(theirs, ours)
    except EdgecifarError as error:
        raise EdgecifarError(f"{path} is a file of Keras {version}: {error}") from None
    except Exception as error:
        raise EdgecifarError(_way_out(path, version, first_line(error))) from error
    if not difference < _TOLERANCE:  # which a network built again in Keras 2 would do too
        raise EdgecifarError(
            f"{path} is a file of Keras {version} and in Keras 2 its outputs differ by "
            f"{difference:.2g} of the largest: find the layer that computes otherwise there, put "
            "one in its place that doesn't, and fine-tune"
        )
    return ours


def _read(path: Path, version: str) -> Any:
    try:
        import keras

        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise EdgecifarError(_way_out(path, version, first_line(error))) from error


def _way_out(path: Path, version: str, reason: str) -> str:
    return (
        f"{path} is a file of Keras {version} that can't be taken over to Keras 2 ({reason}): "
        "save its weights with model.save_weights('x.weights.h5'), set TF_USE_LEGACY_KERAS=1, "
        "build it again with tf_keras, load_weights them and write that with model.save('x.h5')"
    )


def _difference(theirs: Any, ours: "keras.Model") -> float:
    """Return the largest difference of their outputs on noise, as a share of the largest output.

    Some networks take pixels, others what was made of them: each is blind to the other's noise.
    """
    shape = [2, *(side or _SIDE for side in ours.input_shape[1:])]
    random, found = np.random.default_rng(0), []
    noises = [random.normal(size=shape), random.uniform(0, 255, shape)]
    if "int" in str(theirs.inputs[0].dtype):
        noises = [noises[1].round()]
    for noise in noises:
        inputs = noise.astype(np.float32)
        first, second = (np.asarray(model(inputs, training=False)) for model in (theirs, ours))
        found.append(float(np.abs(first - second).max() / max(np.abs(first).max(), 1e-9)))
    return float(np.max(found))  # NaN, if any is


def _build(entry: dict[str, Any]) -> "keras.Model":
    import tf_keras as keras

    translated = _layer(entry)
    kind = keras.Sequential if entry["class_name"] == "Sequential" else keras.Model
    return kind.from_config(translated["config"])


def _layer(entry: dict[str, Any], siblings: Collection[str] = ()) -> dict[str, Any]:
    """Return a layer's or a model's entry as Keras 2 writes it.

    `siblings` are the models among the layers beside it.
    """
    kind, config = entry["class_name"], entry["config"]
    if kind in _MODELS:
        inside = config["layers"]
        models = {inner["config"]["name"] for inner in inside if inner["class_name"] in _MODELS}
        settings: dict[str, Any] = {
            "name": config["name"],
            "layers": [_layer(inner, models) for inner in inside],
        }
        for key in ("input_layers", "output_layers"):
            if key in config:
                settings[key] = [_tensor(each, models) for each in _listed(config[key])]
    elif entry.get("module") != "keras.layers":
        return _layer(_as_layer(entry), siblings)
    else:
        settings = _settings(kind, config)
    translated = {"class_name": kind, "config": settings, "name": settings["name"]}
    if "inbound_nodes" in entry:
        calls = [_call(node, settings["name"], siblings) for node in entry["inbound_nodes"]]
        translated["inbound_nodes"] = calls
    return translated


def _as_layer(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a layer that computes what an operation such as `x / 255` does."""
    kind, nodes = entry["class_name"], entry.get("inbound_nodes", ())
    taken = [*nodes[0]["args"]] if len(nodes) == 1 else []
    numbers = [each for each in taken if isinstance(each, (int, float))]
    tensors = [each for each in taken if isinstance(each, dict)]
    scaled = _SCALES.get((kind, tensors == taken[:1]))
    settings: dict[str, Any] = {"name": entry["config"]["name"]}
    argument: Any = tensors
    if scaled and len(numbers) == len(tensors) == 1:
        (argument,), kind = tensors, "Rescaling"
        settings["scale"], settings["offset"] = scaled(*numbers)
    elif kind not in _MERGES or not len(tensors) == len(taken) == 2:
        raise ValueError(f"{kind} is an operation, not a layer")
    call = {"args": [argument], "kwargs": {}}
    changes = {"class_name": kind, "config": settings, "inbound_nodes": [call]}
    return entry | {"module": "keras.layers"} | changes


def _listed(tensors: list) -> list:
    """Return a list of [layer, node, tensor]; Keras 3 writes a single one bare."""
    return [tensors] if isinstance(tensors[0], str) else tensors


def _tensor(history: list, models: Collection[str]) -> list:
    """Return [layer, call, tensor]; in Keras 2 a model's first call is that which built it.

    One that isn't there makes Keras 2 look for it without end.
    """
    layer, call, tensor = history
    return [layer, call + (layer in models), tensor]


def _settings(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    import tf_keras as keras

    cls = getattr(keras.layers, kind, None)
    if cls is None:
        raise ValueError(f"layer {config['name']} ({kind}) is unknown to Keras 2")
    known = {"name", "dtype", "batch_input_shape"}
    known |= {name for base in cls.__mro__ for name in _parameters(base)}
    settings = {}
    for key, value in config.items():
        ours = _RENAMED.get((kind, key), key)
        if key.endswith(_UNUSED) or key == "trainable":
            continue
        if ours not in known and (not value or _IDLE.get(key) == value or _is_augmentation(kind)):
            continue
        if ours not in known:
            raise ValueError(f"layer {config['name']} ({kind}) has {key}, unknown to Keras 2")
        settings[ours] = _value(key, value, config["name"])
    return settings


def _is_augmentation(kind: str) -> bool:
    """Tell whether layers of a kind do nothing but in training, whatever their settings are."""
    return kind.startswith("Random")


def _parameters(cls: type) -> tuple[str, ...]:
    return tuple(inspect.signature(cls.__init__).parameters) if "__init__" in vars(cls) else ()


def _value(key: str, value: Any, layer: str) -> Any:
    if key == "dtype":
        return "float32"  # models are stored so, whatever precision they were trained in
    if isinstance(value, dict):
        raise ValueError(f"layer {layer} has {key} {value.get('class_name')}, no plain value")
    if key.endswith("activation") and value in _OTHERWISE:
        raise EdgecifarError(
            f"layer {layer} has {value}, which is another function in Keras 2: put "
            f"{_OTHERWISE[value]} in its place, and fine-tune"
        )
    return value


def _call(node: dict[str, Any], layer: str, models: Collection[str]) -> list:
    """Return the tensors that a call of a layer takes, each as [layer, node, tensor, options]."""
    if len(node["args"]) != 1:
        raise ValueError(f"layer {layer} is called with {len(node['args'])} arguments, not one")
    (argument,) = node["args"]
    tensors = argument if isinstance(argument, list) else [argument]
    extra = {key for key, value in node["kwargs"].items() if value and key != "mask"}
    if extra - {"training"}:
        raise ValueError(f"layer {layer} is called with {', '.join(sorted(extra))}")
    return [[*_tensor(tensor["config"]["keras_history"], models), {}] for tensor in tensors]
