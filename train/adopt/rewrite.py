"""A model rewritten: its layers laid flat, for our pixels, with probabilities at the end."""

from typing import TYPE_CHECKING

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.copying import copied, free_name
from edgecifar.train.adopt.leading import Leading
from edgecifar.train.graph import is_functional, readers_of
from edgecifar.train.normalisation import MEAN, SCALE
from edgecifar.train.stem import Preprocessing, adapt_stem

if TYPE_CHECKING:
    import tf_keras as keras

# Of 255 levels: how far the grey of our zeros may lie from what a network's zero padding stands
# for. ImageNet's mean colours are 17 away, and a stem adapted to them loses nothing to speak of.
FRAME_LEVELS = 20


def flatten(model: "keras.Model", image_size: tuple[int, int]) -> "keras.Model":
    """Return a copy of `model` for images of (height, width) without models inside it.

    All layers are trainable and compute in float32. Raises EdgecifarError for a model that isn't
    one image in and one value a class out.
    """
    _require_classifier(model, image_size)
    return copied(model, image_size)


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
        return copied(model, model.input_shape[1:3], without=ahead.names)
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
    adapted = copied(
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
    last = model.outputs[0].node.layer
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    if activation != "linear":
        raise EdgecifarError(
            f"the model ends in {activation} (layer {last.name}), whose outputs are no "
            "probabilities: let it end in softmax, or in logits without an activation"
        )
    name = free_name("probabilities", {layer.name for layer in model.layers})
    softmax = keras.layers.Softmax(dtype="float32", name=name)
    return keras.Model(model.inputs, softmax(model.outputs[0]), name=model.name), True


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
    if not is_functional(model):
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


def _stem(model: "keras.Model", ahead: Leading) -> tuple["keras.layers.Layer | None", bool]:
    """Return the convolution that alone reads the pixels, and whether zeros are put around them."""
    from tf_keras import layers

    key, framed = str(id(model.inputs[0])), False
    for _ in ahead.names:
        key = readers_of(model, key)[0].flat_output_ids[0]
    nodes = readers_of(model, key)
    if len(nodes) == 1 and isinstance(nodes[0].layer, layers.ZeroPadding2D):
        framed, nodes = True, readers_of(model, nodes[0].flat_output_ids[0])
    layer = nodes[0].layer
    alone = len(nodes) == 1 and len(layer.inbound_nodes) == 1
    if not alone or type(layer) is not layers.Conv2D or layer.groups > 1:
        return None, False
    return layer, framed or (layer.padding == "same" and max(layer.kernel_size) > 1)


def _normalised(model: "keras.Model", stem: "keras.layers.Layer") -> bool:
    """Tell whether `adapt_stem` finds a bias, or batch normalisation that can take one."""
    from tf_keras import layers

    readers = readers_of(model, stem.inbound_nodes[0].flat_output_ids[0])
    norm = readers[0].layer if len(readers) == 1 else None
    whole = isinstance(norm, layers.BatchNormalization) and norm.scale and norm.center
    # Behind a ReLU the constant is none any more.
    linear = getattr(stem.activation, "__name__", "") == "linear"
    return stem.use_bias or (whole and linear)
