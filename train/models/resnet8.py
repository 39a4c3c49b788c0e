"""ResNet-8 of MLPerf Tiny: three residual blocks of 16, 32 and 64 filters."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras as keras


def build(image_size: tuple[int, int], classes: int) -> "keras.Model":
    """Build the network: 78,666 parameters for 10 classes, as the reference model has.

    Source: mlcommons/tiny, benchmark/training/image_classification. The convolutions keep the
    reference's biases although batch normalisation follows, so that the counts agree.
    """
    import tf_keras as keras
    from tf_keras import layers

    inputs = keras.Input((*image_size, 3))
    x = _convolution(inputs, 16, activation=True)
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        x = _residual_block(x, filters, stride)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(classes, kernel_initializer="he_normal")(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name="resnet8")


def _convolution(x, filters: int, *, stride: int = 1, activation: bool):
    from tf_keras import layers

    x = layers.Conv2D(filters, 3, strides=stride, padding="same", kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activation else x


def _residual_block(x, filters: int, stride: int):
    from tf_keras import layers

    shortcut = x
    if stride != 1:
        shortcut = layers.Conv2D(
            filters, 1, strides=stride, padding="same", kernel_initializer="he_normal"
        )(x)
    x = _convolution(x, filters, stride=stride, activation=True)
    x = _convolution(x, filters, activation=False)
    return layers.ReLU()(layers.Add()([shortcut, x]))
