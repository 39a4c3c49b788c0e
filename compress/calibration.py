"""The training images that int8 takes its ranges from, and ranges that a few values distort."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import normalise
from edgecifar.train.pipeline import images_kept_at_once

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

CALIBRATION_IMAGES = 500
_FEWEST = 10  # fewer images leave most ranges too narrow
_LOOKED_AT = 100  # images, in the search for outliers
_BATCH = 20
# A value in ten thousand, at least five: what counts as a handful.
_HANDFUL_SHARE, _HANDFUL = 1e-4, 5
_FEWEST_VALUES = 1000  # in fewer, five are no handful
# Ordinary activations reach 1.2 to 2.7 times as far as all but a handful of them do.
_SEVERAL = 4.0


def calibration_images(dataset: "Dataset", count: int = CALIBRATION_IMAGES) -> np.ndarray:
    """Return uint8 training images [about count, height, width, 3], the same number a class.

    A class gives one image at least, and all it has if those are too few. Raises EdgecifarError
    for fewer training images than ranges can be taken from, and if all are of one class.
    """
    labels = np.asarray(dataset.train.labels)
    if len(labels) < _FEWEST:
        raise EdgecifarError(
            f"{len(labels)} training images are too few to calibrate int8 with: "
            f"{_FEWEST} or more are needed"
        )
    present = np.unique(labels)
    if len(present) < 2:
        raise EdgecifarError(
            f"all training images are of the class {dataset.classes[present[0]]}: int8 needs "
            "images of several classes to find its ranges"
        )
    each = max(1, count // len(dataset.classes))
    chosen = [np.flatnonzero(labels == index)[:each] for index in range(len(dataset.classes))]
    return dataset.train.images[np.sort(np.concatenate(chosen))]


def require_count(dataset: "Dataset", count: int) -> None:
    """Raise EdgecifarError unless `count` calibration images are neither too few nor too many."""
    fewest, most = max(_FEWEST, len(dataset.classes)), len(dataset.train)
    if count < fewest:
        raise EdgecifarError(
            f"{count} calibration images are too few for {len(dataset.classes)} classes: "
            f"give {fewest} or more"
        )
    if count > most:
        raise EdgecifarError(
            f"{count} calibration images are more than there are for training: give at most {most}"
        )


@dataclass(frozen=True)
class Outlier:
    """A layer whose range is set by a handful of its values."""

    layer: str
    low: float  # the range that int8 is spread over
    high: float
    usual_low: float  # the range of all but the handful
    usual_high: float

    @property
    def times(self) -> float:
        """How many times the usual range the whole one is."""
        usual = max(self.usual_high - self.usual_low, np.finfo(np.float32).tiny)
        return (self.high - self.low) / usual

    @property
    def warning(self) -> str:
        """One line that names the layer and the ways out."""
        return (
            f"layer {self.layer}: a handful of values set its range ({self.low:.3g} to "
            f"{self.high:.3g}, all others {self.usual_low:.3g} to {self.usual_high:.3g}), which "
            f"leaves int8 {max(256 / self.times, 1):.0f} of 256 steps: fine-tune with `edgecifar "
            f"quantize`, use ReLU6 there, or give --keep-float {self.layer}"
        )


def outliers(model: "keras.Model", images: np.ndarray, layers: Sequence[str]) -> list[Outlier]:
    """Return those of `layers` that put out a handful of values far from all others.

    `images` are uint8 [n, height, width, 3], of which a spread sample is looked at. A handful is
    a value in ten thousand, far is a range many times as wide as without them.
    """
    images = images[:: max(1, len(images) // _LOOKED_AT)]
    inner = {name: model.get_layer(name).get_output_at(0) for name in layers}
    extremes = {name: _Extremes(len(images) * prod(x.shape[1:])) for name, x in inner.items()}
    for values in _outputs(model, images, inner):
        for name, value in values.items():
            extremes[name].see(value)
    found = [seen.outlier(name) for name, seen in extremes.items() if seen.count >= _FEWEST_VALUES]
    return [outlier for outlier in found if outlier.times >= _SEVERAL]


def _outputs(
    model: "keras.Model", images: np.ndarray, tensors: Mapping[str, Any]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield, batch by batch, the values of each of the model's `tensors`, flattened."""
    import tf_keras as keras

    inner = keras.Model(model.inputs, dict(tensors))
    size = min(_BATCH, images_kept_at_once(model))
    for start in range(0, len(images), size):
        batch = normalise(images[start : start + size].astype(np.float32))
        values = inner(batch, training=False)
        yield {name: value.numpy().ravel() for name, value in values.items()}


class _Extremes:
    """The handful of largest and smallest among `count` values that come batch by batch."""

    def __init__(self, count: int):
        self.count = count
        self._kept = max(_HANDFUL, int(count * _HANDFUL_SHARE)) + 1
        self._largest = self._negated = np.empty(0, np.float32)

    def see(self, values: np.ndarray) -> None:
        """Take in a batch, float32 [n]."""
        self._largest = _largest(np.concatenate([self._largest, values]), self._kept)
        self._negated = _largest(np.concatenate([self._negated, -values]), self._kept)

    def outlier(self, layer: str) -> Outlier:
        """Return the whole range, and the one without a handful at either end."""
        low, high = -self._negated, self._largest
        return Outlier(layer, *map(float, (low.min(), high.max(), low.max(), high.min())))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) <= count:
        return values
    return np.partition(values, len(values) - count)[-count:]
