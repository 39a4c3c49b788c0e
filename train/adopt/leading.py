"""The layers with which a flat model prepares its pixels."""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.train.graph import arguments_of, readers_of
from edgecifar.train.stem import Preprocessing

if TYPE_CHECKING:
    import tf_keras as keras


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
    while len(nodes := readers_of(model, key)) == 1 and len(nodes[0].flat_input_ids) == 1:
        arguments, options = arguments_of(nodes[0], {key: value})
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
