"""EfficientNet-Lite0, made for int8 on small devices, for transfer learning."""

from typing import TYPE_CHECKING

from edgecifar.train.models.backbone import Backbone
from edgecifar.train.pretrained import Lite0Weights
from edgecifar.train.stem import Preprocessing

if TYPE_CHECKING:
    import tf_keras as keras

# Repeats, kernel size, stride of the first, expansion, output filters.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build(image_size: tuple[int, int], classes: int, *, backbone_size: int = 0) -> "keras.Model":
    """Build the network: 3,425,834 parameters for 10 classes.

    For ImageNet's 1000 classes it has 4,694,024, of which 4,652,008 are trainable, as published.
    ReLU6 in place of swish and no squeeze-excitation. Stochastic depth, which belongs to training
    from scratch on ImageNet, is left out. Source: tensorflow/tpu, efficientnet/lite.
    """
    return BACKBONE.build(image_size, classes, backbone_size=backbone_size)


def _features(images):
    x = _convolution(images, 32, 3, stride=2, name="stem")
    block = 0
    for repeats, size, stride, expansion, filters in STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            x = _block(x, size, step, expansion, filters, name=f"block{block}")
            block += 1
    return _convolution(x, 1280, 1, name="top")


def _block(x, size: int, stride: int, expansion: int, filters: int, *, name: str):
    """Apply an inverted residual block: expand, filter each channel, project."""
    from tf_keras import layers

    shortcut, width = x, x.shape[-1]
    if expansion > 1:
        x = _convolution(x, width * expansion, 1, name=f"{name}_expand")
    x = layers.DepthwiseConv2D(
        size, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _normalise(x, name=f"{name}_depthwise")
    x = _convolution(x, filters, 1, activation=False, name=f"{name}_project")
    if stride == 1 and filters == width:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _convolution(
    x, filters: int, size: int, *, stride: int = 1, activation: bool = True, name: str
):
    from tf_keras import layers

    x = layers.Conv2D(
        filters, size, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return _normalise(x, activation=activation, name=name)


def _normalise(x, *, activation: bool = True, name: str):
    from tf_keras import layers

    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x


BACKBONE = Backbone(
    name="efficientnet_lite0",
    features=_features,
    stem="stem_conv",
    preprocessing=Preprocessing(mean=(127.0,) * 3, scale=(128.0,) * 3),
    load_imagenet=Lite0Weights().load,
    dropout=0.2,
)
