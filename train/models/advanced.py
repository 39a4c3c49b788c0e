"""Three residual blocks of 64, 128 and 256 filters: the seed report's advanced model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras as keras


def build(image_size: tuple[int, int], classes: int) -> "keras.Model":
    """Build the network: 1,368,778 parameters for 10 classes, as the report states.

    That count follows from convolutions without biases and a projection on every shortcut, the
    first block's included although its width doesn't change. The report says that max and global
    pooling are mixed and that there is dropout; one max pool between two blocks and a rate of 0.5
    before the classifier are ours.
    """
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((*image_size, 3))
    x = layers.ReLU()(_convolution(inputs, 64))
    x = _residual_block(x, 64)
    x = _residual_block(layers.MaxPooling2D()(x), 128)
    x = _residual_block(layers.MaxPooling2D()(x), 256)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(512, activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Dense(classes)(layers.Dropout(0.5)(x))
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name="advanced")


def _convolution(x, filters: int, size: int = 3):
    from tf_keras import layers

    x = layers.Conv2D(
        filters, size, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.BatchNormalization()(x)


def _residual_block(x, filters: int):
    from tf_keras import layers

    shortcut = _convolution(x, filters, size=1)
    x = layers.ReLU()(_convolution(x, filters))
    x = _convolution(x, filters)
    return layers.ReLU()(layers.Add()([shortcut, x]))
