"""Copies of a model with its layers laid flat, for our pixels, with probabilities at the end."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import MEAN, SCALE
from edgecifar.train.stem import Preprocessing, adapt_stem

if TYPE_CHECKING:
    import tf_keras as keras

SHIFT = "pixel_shift"  # the layer that may be put ahead of all others
# Of 255 levels: how far the grey of our zeros may lie from what a network's zero padding stands
# for. ImageNet's mean colours are 17 away, and a stem adapted to them loses nothing to speak of.
FRAME_LEVELS = 20


def flatten(model: "keras.Model", image_size: tuple[int, int]) -> "keras.Model":
    """Return a copy of `model` for images of (height, width) without models inside it.

    All layers are trainable and compute in float32. Raises EdgecifarError for a model that isn't
    one image in and one value a class out.
    """
    _require_classifier(model, image_size)
    return _copied(model, image_size)


@dataclass(frozen=True)
class Leading:
    """The layers ahead of a flat model's first that does more than rescale colours.

    Together they map a pixel's colours x, as the model is given them, to `x @ matrix + offset`;
    `matrix` [3, 3] has one entry in each row and column: red and blue may change places.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    offset: np.ndarray

    def after(self, pixels: Preprocessing) -> Preprocessing:
        """Return what becomes of raw pixels that `pixels` prepares for the model."""
        order = slice(None, None, -1) if pixels.bgr else slice(None)
        matrix = np.diag(1 / np.array(pixels.scale))[:, order] @ self.matrix
        offset = (-np.array(pixels.mean) / pixels.scale)[order] @ self.matrix + self.offset
        bgr = not matrix[0, 0]
        if bgr:
            matrix, offset = matrix[:, ::-1], offset[::-1]
        scale = 1 / np.diag(matrix)
        return Preprocessing(tuple(-offset * scale), tuple(scale), bgr=bool(bgr))


def leading(model: "keras.Model") -> Leading:
    """Find the layers with which a flat model prepares its pixels, whatever they are called.

    Each is tried out: Rescaling, Normalization, a division written as `/`, batch normalisation,
    or augmentation, which does nothing outside training.
    """
    images = _probes(model.input_shape[1:])
    found = Leading((), np.eye(3), np.zeros(3))
    key, value = str(id(model.inputs[0])), images
    while len(nodes := _readers(model, key)) == 1 and len(nodes[0].flat_input_ids) == 1:
        arguments, options = _arguments(nodes[0], {key: value})
        layer = nodes[0].layer
        if "training" in inspect.signature(layer.call).parameters:
            options["training"] = False
        value = np.asarray(layer(*arguments, **options))
        affine = _affine(images, value)
        if affine is None:
            break
        found = Leading((*found.names, layer.name), *affine)
        (key,) = nodes[0].flat_output_ids
    return found


def for_our_pixels(
    model: "keras.Model",
    ahead: Leading,
    takes: Preprocessing,
    *,
    frame_levels: float = FRAME_LEVELS,
) -> "keras.Model":
    """Return a flat model that takes `(pixel - 120) / 64` instead of what `takes` gives it.

    The layers in `ahead` are gone. The scale goes into the first convolution; so does the mean
    colour where no zero padding sees it, or hardly: where it is no more than `frame_levels` of 255
    away (see `adapt_stem`). Else the layer SHIFT adds what makes zero mean again what it meant, one
    depthwise 1x1 convolution that is never trained.
    """
    means, scales = np.array(takes.mean), np.array(takes.scale)
    if np.allclose(means, MEAN) and np.allclose(scales, SCALE) and not takes.bgr:
        return _copied(model, model.input_shape[1:3], without=ahead.names)
    stem, framed = _stem(model, ahead)
    if stem is None and takes.bgr:
        raise EdgecifarError("the model takes blue first and doesn't begin with a convolution")
    shift = None
    if stem is None:
        shift = (SCALE / scales, (MEAN - means) / scales)
    elif framed and np.abs(means - MEAN).max() > frame_levels:
        shift = (np.ones(3), (MEAN - means) / SCALE)
        takes = Preprocessing((MEAN,) * 3, takes.scale, takes.bgr)
    biased = {stem.name: {"use_bias": True}} if stem and not _normalised(model, stem) else {}
    adapted = _copied(
        model, model.input_shape[1:3], without=ahead.names, changes=biased, shift=shift
    )
    if stem:
        adapt_stem(adapted, stem.name, takes)
    return adapted


def with_probabilities(model: "keras.Model", outputs: np.ndarray) -> tuple["keras.Model", bool]:
    """Return `model` with a softmax if it ends in logits, and whether it did.

    `outputs` [n, classes] are the model's for real images. Raises EdgecifarError for outputs that
    are neither probabilities nor logits.
    """
    import tf_keras as keras

    if outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        return model, False
    last = model.outputs[0]._keras_history.layer
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    if activation != "linear":
        raise EdgecifarError(
            f"the model ends in {activation} (layer {last.name}), whose outputs are no "
            "probabilities: let it end in softmax, or in logits without an activation"
        )
    name = free_name("probabilities", {layer.name for layer in model.layers})
    softmax = keras.layers.Softmax(dtype="float32", name=name)
    return keras.Model(model.inputs, softmax(model.outputs[0]), name=model.name), True


def free_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, with as many underscores behind it as set it apart from those `taken`."""
    while name in taken:
        name += "_"
    return name


def require_size(image_size: tuple[int, int], takes: tuple[int, int], what: str) -> None:
    """Raise EdgecifarError if images of (height, width) aren't what `what` takes."""
    if tuple(image_size) == tuple(takes):
        return
    size = f"{takes[0]}" if takes[0] == takes[1] else f"{takes[0]}x{takes[1]}"
    raise EdgecifarError(
        f"{what} takes images of {takes[0]}x{takes[1]} pixels, these are "
        f"{image_size[0]}x{image_size[1]}: --image-size {size} scales them"
    )


def _require_classifier(model: "keras.Model", image_size: tuple[int, int]) -> None:
    if not getattr(model, "_is_graph_network", False):
        raise EdgecifarError(
            "a subclassed model can't be taken apart: build it with keras.Model(inputs, outputs)"
        )
    for kind, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise EdgecifarError(
                f"a model with {len(tensors)} {kind} is no image classifier: cut out the part "
                "that takes one image and tells its class"
            )
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or shape[2] not in (3, None):
        raise EdgecifarError(
            f"the model takes {shape}: it must take images (height, width, 3), channels last"
        )
    takes = (shape[0] or image_size[0], shape[1] or image_size[1])
    require_size(image_size, takes, "the model")


def _copied(
    model: "keras.Model",
    image_size: tuple[int, int],
    *,
    without: Collection[str] = (),
    changes: Mapping[str, dict[str, Any]] | None = None,
    shift: tuple[np.ndarray, np.ndarray] | None = None,
) -> "keras.Model":
    """Return a flat copy without some layers, with changed configs, behind `shift`.

    `shift` are the three weights and biases of the layer SHIFT.
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

    def __call__(self, model: "keras.Model", tensor: Any) -> Any:
        import tf_keras as keras

        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise EdgecifarError(
                f"layer {model.name} is a model with several inputs or outputs: inline its layers"
            )
        tensors = {str(id(model.inputs[0])): tensor}
        for depth in sorted(model._nodes_by_depth, reverse=True):  # no public order of nodes
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                arguments, options = _arguments(node, tensors)
                if isinstance(node.layer, keras.Model):
                    result = self(node.layer, arguments[0])
                elif node.layer.name in self._without:
                    result = arguments[0]
                else:
                    result = self._copy(node.layer)(*arguments, **options)
                (key,) = node.flat_output_ids
                tensors[key] = result
        return tensors[str(id(model.outputs[0]))]

    def _copy(self, layer: "keras.layers.Layer") -> Any:
        """Return the copy of a layer, the same at each of its calls; it is built when called."""
        if id(layer) not in self._layers:
            name = free_name(layer.name, self._names)  # two models inside may have used the same
            self._names.add(name)
            settings = {"name": name, "trainable": True, "dtype": "float32"}
            config = layer.get_config() | settings | self._changes.get(layer.name, {})
            copy = type(layer).from_config(config)
            if layer.weights:
                self._fill(copy, layer)
            self._layers[id(layer)] = copy
        return self._layers[id(layer)]

    def _fill(self, copy: "keras.layers.Layer", layer: "keras.layers.Layer") -> None:
        """Build a copy as its original was and give it the weights, and a new bias of zeros."""
        shapes = [shape[1:] for shape in _as_list(layer.get_input_shape_at(0))]
        built = [(None, *shape) for shape in shapes]
        copy.build(built if len(built) > 1 else built[0])
        weights = layer.get_weights()
        missing = copy.weights[len(weights) :]
        copy.set_weights([*weights, *(np.zeros(weight.shape) for weight in missing)])


def _arguments(node: Any, tensors: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Return what a call of a layer takes, with `tensors` for those it was built with."""
    # Keras pops the tensors off lists, which hold one for each reader.
    read = node.flat_input_ids
    arguments, options = node.map_arguments({key: [tensors[key]] * len(read) for key in read})
    return arguments, {key: value for key, value in options.items() if key != "training"}


def _as_list(shapes: Any) -> list:
    return shapes if isinstance(shapes, list) else [shapes]


def _readers(model: "keras.Model", key: str) -> list:
    """Return the calls of layers that read the tensor called `key`; none for the last one."""
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    return [node for node in nodes if not node.is_input and key in node.flat_input_ids]


def _probes(shape: tuple[int, int, int]) -> np.ndarray:
    """Return black, red, green, blue and noise of either sign, float32 [5, height, width, 3]."""
    images = np.zeros((5, *shape), np.float32)
    for channel in range(3):
        images[1 + channel, ..., channel] = 1
    images[4] = np.random.default_rng(0).normal(scale=100, size=shape)
    return images


def _affine(images: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (matrix, offset) if `values` are the colours of `_probes` rescaled, else None."""
    if values.shape != images.shape:
        return None
    offset = values[0, 0, 0].astype(float)
    matrix = values[1:4, 0, 0] - offset
    # Differences of numbers as large as the offset: what is left of zero is rounding.
    matrix = np.where(np.abs(matrix) < 1e-5 * max(1.0, np.abs(offset).max()), 0, matrix)
    used = matrix != 0
    if not (np.array_equal(used, np.eye(3)) or np.array_equal(used, np.eye(3)[::-1])):
        return None
    predicted = images @ matrix + offset
    return (matrix, offset) if np.allclose(predicted, values, rtol=1e-3, atol=1e-3) else None


def _stem(model: "keras.Model", ahead: Leading) -> tuple["keras.layers.Layer | None", bool]:
    """Return the convolution that alone reads the pixels, and whether zeros are put around them."""
    from tf_keras import layers

    key, framed = str(id(model.inputs[0])), False
    for _ in ahead.names:
        key = _readers(model, key)[0].flat_output_ids[0]
    nodes = _readers(model, key)
    if len(nodes) == 1 and isinstance(nodes[0].layer, layers.ZeroPadding2D):
        framed, nodes = True, _readers(model, nodes[0].flat_output_ids[0])
    layer = nodes[0].layer
    alone = len(nodes) == 1 and len(layer.inbound_nodes) == 1
    if not alone or type(layer) is not layers.Conv2D or layer.groups > 1:
        return None, False
    return layer, framed or (layer.padding == "same" and max(layer.kernel_size) > 1)


def _normalised(model: "keras.Model", stem: "keras.layers.Layer") -> bool:
    """Tell whether `adapt_stem` finds a bias, or batch normalisation that can take one."""
    from tf_keras import layers

    readers = _readers(model, stem.inbound_nodes[0].flat_output_ids[0])
    norm = readers[0].layer if len(readers) == 1 else None
    whole = isinstance(norm, layers.BatchNormalization) and norm.scale and norm.center
    # Behind a ReLU the constant is none any more.
    linear = getattr(stem.activation, "__name__", "") == "linear"
    return stem.use_bias or (whole and linear)
