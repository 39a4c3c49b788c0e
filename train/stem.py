"""The pixels that a network was trained on, and making it take ours instead."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.train.normalisation import MEAN, SCALE

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Preprocessing:
    """The inputs that a network was trained on: `(pixel - mean) / scale`, channel by channel."""

    mean: tuple[float, float, float]  # of red, green, blue, 0..255
    scale: tuple[float, float, float]
    bgr: bool = False  # whether the network wants blue first

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the network's inputs for pixels 0..255, RGB, in float32."""
        inputs = (pixels.astype(np.float32) - self.mean) / self.scale
        return (inputs[..., ::-1] if self.bgr else inputs).astype(np.float32)


def adapt_stem(model: "keras.Model", name: str, preprocessing: Preprocessing) -> None:
    """Make a model with published weights take our normalised images instead of its own.

    `name` is its first convolution. With x ours and y theirs, `y = a x + b` in each channel, and a
    convolution is linear: `a` goes into its kernel, what it makes of `b` into its bias, or into
    the mean of the batch normalisation behind it. So nothing is computed on the device, no
    requantization loses bits of the pixels, and the input tensor keeps its scale of 1/64. (A
    depthwise 1x1 layer would cost both; batch normalisation ahead of any convolution has no int8
    form in the toolkit.) It is exact but for the frame that zero padding touches: there a zero now
    stands for the grey 120 instead of the network's mean colour, with ImageNet's at most 17 of 255
    levels away.
    """
    means, scales = map(np.array, (preprocessing.mean, preprocessing.scale))
    factor, offset = SCALE / scales, (MEAN - means) / scales
    stem = model.get_layer(name)
    kernel, *bias = stem.get_weights()  # [height, width, channels, filters]
    if preprocessing.bgr:
        kernel = kernel[:, :, ::-1]
    constant = np.einsum("hwcf,c->f", kernel, offset)
    kernel = kernel * factor[:, None]
    if bias:
        stem.set_weights([kernel, bias[0] + constant])
        return
    stem.set_weights([kernel])
    norm = stem.outbound_nodes[0].outbound_layer
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma, beta, mean - constant, variance])
