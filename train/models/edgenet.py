"""Networks of dense 3x3 convolutions, any shape of them, for CPUs whose int8 cost is dense MACs.

A shape is written as one text, which is also the architecture's name after `edge-`:
`16-s32r-s48r` is a convolution of 16 filters, one of stride 2 with 32 filters and a residual block
of two, one of stride 2 with 48 and a block, then global pooling and the classifier. `p` is a plain
convolution, and words at the end are options: `relu6` bounds the activations, `rep` trains with a
1x1 and an identity branch beside each 3x3 that are folded into it afterwards, `white` starts the
first layer from the principal components of image patches.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgecifar.runtime.errors import EdgecifarError

if TYPE_CHECKING:
    import numpy as np
    import tf_keras as keras

PREFIX = "edge-"
_OPTIONS = {"relu6": {"relu6": True}, "rep": {"branches": True}, "white": {"whitened": True}}
_STAGE = re.compile(r"(s?)([1-9]\d*)([rp]*)")

# Convolutions as they are trained, as branches beside them are trained, or with all of it folded.
Form = Literal["plain", "branched", "folded"]


@dataclass(frozen=True)
class Stage:
    """A convolution of `width` filters and `stride`, and what follows at the same size.

    `blocks` has a letter each: `r` a residual block of two convolutions, `p` a plain convolution.
    """

    width: int
    stride: Literal[1, 2] = 1
    blocks: str = ""

    def __str__(self) -> str:
        return f"{'s' if self.stride == 2 else ''}{self.width}{self.blocks}"


@dataclass(frozen=True)
class Convolution:
    """One 3x3 convolution of a shape: channels in and out, and its stride."""

    name: str
    inputs: int
    width: int
    stride: int


@dataclass(frozen=True)
class Shape:
    """All that is free in the family; the first stage is the stem."""

    stages: tuple[Stage, ...]
    relu6: bool = False
    branches: bool = False  # while it is trained
    whitened: bool = False

    def __str__(self) -> str:
        options = (word for word, fields in _OPTIONS.items() if replace(self, **fields) == self)
        return "-".join((*map(str, self.stages), *options))

    def convolutions(self) -> Iterator[Convolution]:
        """Yield all convolutions from input to output."""
        channels = 3
        for number, stage in enumerate(self.stages):
            name = f"stage{number}" if number else "stem"
            yield Convolution(name, channels, stage.width, stage.stride)
            channels = stage.width
            for position, letter in enumerate(stage.blocks, start=1):
                for part in "ab" if letter == "r" else "a":
                    yield Convolution(f"{name}_{letter}{position}{part}", channels, channels, 1)

    def parameters(self, classes: int) -> int:
        """Return the weights of the network as it is deployed, batch normalisation included.

        Where branches are folded, a bias is left of it.
        """
        normalised = 1 if self.branches else 4
        each = sum((9 * c.inputs + normalised) * c.width for c in self.convolutions())
        return each + (self.stages[-1].width + 1) * classes

    def macs(self, image_size: tuple[int, int], classes: int) -> int:
        """Return the multiply-accumulates for one image of (height, width)."""
        height, width = image_size
        total = self.stages[-1].width * classes
        for layer in self.convolutions():
            height, width = -(-height // layer.stride), -(-width // layer.stride)
            total += 9 * layer.inputs * layer.width * height * width
        return total


def parse(text: str) -> Shape:
    """Read a shape as its text states it, such as `16-s32r-s48r-relu6`.

    Raises EdgecifarError for a part that is neither a stage nor an option.
    """
    stages, options = [], {}
    for part in text.split("-"):
        match = _STAGE.fullmatch(part)
        if part in _OPTIONS and stages:
            options |= _OPTIONS[part]
        elif match and not options:
            stride = 2 if match[1] else 1
            stages.append(Stage(int(match[2]), stride, match[3]))
        else:
            raise EdgecifarError(
                f"{part!r} is no part of a shape like 16-s32r-s48rp-relu6: write stages as [s]"
                f"WIDTH[r|p]…, then any of {', '.join(_OPTIONS)}"
            )
    return Shape(tuple(stages), **options)


PRESETS = {
    "nano": parse("16p-s32r-s48r"),
    "small": parse("32p-s64rr-s96rp"),
    "base": parse("32-s96rr-s160rr-s224"),
}


def find(name: str) -> Shape | None:
    """Return the shape called `name`: a preset, with options or none, or `edge-` and its text.

    None if the name is of neither kind; EdgecifarError if it is but can't be read.
    """
    if name.startswith(PREFIX):
        return parse(name.removeprefix(PREFIX))
    preset, *options = name.split("-")
    if preset not in PRESETS or not set(options) <= set(_OPTIONS):
        return None
    return parse("-".join((str(PRESETS[preset]), *options)))


def build(
    shape: Shape, image_size: tuple[int, int], classes: int, *, form: Form | None = None
) -> "keras.Model":
    """Build the network; without a `form` it is the one to be trained.

    Layers are named after the shape's convolutions.
    """
    import tf_keras as keras
    from tf_keras import layers

    form = form or ("branched" if shape.branches else "plain")
    steps = shape.convolutions()

    def convolution(x):
        return _convolve(x, next(steps), form)

    def activate(x):
        return layers.ReLU(6.0 if shape.relu6 else None)(x)

    x = inputs = keras.Input((*image_size, 3))
    for stage in shape.stages:
        x = activate(convolution(x))
        for letter in stage.blocks:
            branch = activate(convolution(x))
            x = branch if letter == "p" else activate(layers.Add()([x, convolution(branch)]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(classes, kernel_initializer="he_normal", name="classifier")(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name="edgenet")


def fold(shape: Shape, model: "keras.Model") -> "keras.Model":
    """Return the plain network that computes what a trained, branched `model` does.

    Source: Ding et al., "RepVGG", 2021. Batch normalisation goes into the kernels too.
    """
    from edgecifar.train.fold import folded_convolution

    plain = build(shape, model.input_shape[1:3], model.output_shape[-1], form="folded")
    for layer in shape.convolutions():
        plain.get_layer(layer.name).set_weights(folded_convolution(model, layer.name))
    plain.get_layer("classifier").set_weights(model.get_layer("classifier").get_weights())
    return plain


def initialise(model: "keras.Model", images: "np.ndarray") -> None:
    """Start the stem of `model` from whitened patches of uint8 images [n, height, width, 3]."""
    from edgecifar.train.whitening import whitening_kernel

    stem = model.get_layer("stem")
    kernel, *rest = stem.get_weights()
    filters = whitening_kernel(images, size=3, filters=kernel.shape[-1])
    kernel[..., : filters.shape[-1]] = filters
    stem.set_weights([kernel, *rest])


def _convolve(x, layer: Convolution, form: Form):
    """Apply a convolution with what normalises it, and the branches beside it if asked for."""
    from tf_keras import layers

    def branch(size: int, name: str):
        y = layers.Conv2D(
            layer.width,
            size,
            strides=layer.stride,
            padding="same",
            use_bias=form == "folded",
            kernel_initializer="he_normal",
            name=name,
        )(x)
        return y if form == "folded" else layers.BatchNormalization(name=f"{name}_bn")(y)

    branches = [branch(3, layer.name)]
    if form == "branched":
        branches.append(branch(1, f"{layer.name}_point"))
        if (layer.stride, layer.inputs) == (1, layer.width):
            branches.append(layers.BatchNormalization(name=f"{layer.name}_identity_bn")(x))
    return layers.Add()(branches) if len(branches) > 1 else branches[0]
