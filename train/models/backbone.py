"""Networks made for ImageNet, between our pixels and a head for our classes.

All layers lie flat in one functional model, since the model-optimization toolkit takes no model
inside a model. Small images are enlarged by `UpSampling2D`, bilinear, the only resizing layer the
toolkit knows (it has no form for `Resizing`), hence the whole factors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.stem import Preprocessing, adapt_stem

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier, and the head that we put on it.

    `features` maps normalised images (a Keras tensor, NHWC) to the last feature map; `stem` names
    its first convolution. `load_imagenet` fills a model that ends in that map with ImageNet
    weights as published, before the stem is adapted to our inputs: from a file if a path is given,
    else from where such weights are kept. It returns the file that it read.
    """

    name: str
    features: Callable
    stem: str
    preprocessing: Preprocessing
    load_imagenet: Callable
    hidden: int = 0  # units of a ReLU layer before the classifier; 0 is none
    dropout: float = 0.5
    pooled: ClassVar[str] = "head_pool"  # the layer whose output [batch, channels] the head takes

    def build(
        self, image_size: tuple[int, int], classes: int, *, backbone_size: int = 0
    ) -> "keras.Model":
        """Build the whole classifier; `backbone_size` is the shorter side the backbone sees.

        0 leaves the images as they are.
        """
        import tf_keras as keras

        inputs = keras.Input((*image_size, 3))
        x = self.features(_enlarge(inputs, enlargement(image_size, backbone_size)))
        x = keras.layers.GlobalAveragePooling2D(name=self.pooled)(x)
        return keras.Model(inputs, self.head(x, classes), name=self.name)

    def head(self, features, classes: int):
        """Apply the head to pooled features [batch, channels]; returns probabilities."""
        from tf_keras import layers

        x = features
        if self.hidden:
            x = layers.Dense(self.hidden, activation="relu", name="head_hidden")(x)
        x = layers.Dropout(self.dropout, name="head_dropout")(x)
        x = layers.Dense(classes, name="head_classifier")(x)
        return layers.Softmax(dtype="float32", name="head_probabilities")(x)

    def layers(self, model: "keras.Model") -> list:
        """Return the backbone's own layers in a model that `build` made, from input to output."""
        names = [layer.name for layer in model.layers]
        return model.layers[names.index(self.stem) : names.index(self.pooled)]

    def adapt_stem(self, model: "keras.Model") -> None:
        """Make a model with published weights take our normalised images instead of its own."""
        adapt_stem(model, self.stem, self.preprocessing)


SMALLEST = 96  # pixels: below it networks made for 224 pixels lose most of what they know


def usual_size(image_size: tuple[int, int]) -> int:
    """Return the `backbone_size` to take where none is given."""
    side = min(image_size)
    return side * -(-SMALLEST // side)


def enlargement(image_size: tuple[int, int], backbone_size: int) -> int:
    """Return the whole factor that makes the shorter side of an image `backbone_size`; 0 is 1."""
    side = min(image_size)
    if not backbone_size:
        return 1
    if backbone_size % side:
        nearest = side * max(1, round(backbone_size / side))
        raise EdgecifarError(
            f"--backbone-size {backbone_size} is no whole multiple of the images' {side} pixels: "
            f"use {nearest}, or scale the images themselves with --image-size"
        )
    return backbone_size // side


def _enlarge(images, factor: int):
    from tf_keras import layers

    if factor == 1:
        return images
    return layers.UpSampling2D(factor, interpolation="bilinear", name="enlarge")(images)
