"""What each layer loses in int8: one at a time quantized by TFLite itself, the rest in float."""

import dataclasses
import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.bare import probabilities
from edgecifar.compress.calibration import CALIBRATION_IMAGES, calibration_images, require_count
from edgecifar.compress.selective import Ranged, Unit, ranged
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import alone_in, write_json, write_whole
from edgecifar.train.keras_files import is_quantization_aware
from edgecifar.train.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from edgecifar.train.data import Dataset, Split

SCHEMA = 1
IMAGES = 1000
_LEAST = 1 / 512  # half a step of an int8 probability: what is below it counts as that much

Track = Callable[[Iterable[Unit]], Iterable[Unit]]  # hands units on and shows how far it is


@dataclass(frozen=True)
class LayerSensitivity:
    """A layer in int8, all others in float."""

    layer: str
    fused: tuple[str, ...]  # what TFLite computes in the same operation
    operations: tuple[str, ...]  # such as CONV_2D
    top1_change: float  # points
    divergence: float  # mean Kullback-Leibler divergence from the float probabilities, nats


@dataclass(frozen=True)
class Sensitivity:
    """All layers of a model, in its order."""

    images: int  # of validation, that the figures are means over
    calibration: int  # images that the ranges were taken from
    float_top1: float  # percent
    layers: tuple[LayerSensitivity, ...]

    @property
    def ranked(self) -> tuple[LayerSensitivity, ...]:
        """The layers, the one that loses most first."""
        return tuple(sorted(self.layers, key=lambda each: -each.divergence))

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return {"schema": SCHEMA, "created": now, **dataclasses.asdict(self)}


def sensitivity(
    run: Run,
    dataset: "Dataset",
    *,
    images: int = IMAGES,
    calibration: int | None = None,
    track: Track = iter,
) -> Sensitivity:
    """Measure each layer of the run's model on `images` validation images, or on all of fewer.

    Ranges are taken from `calibration` training images, 500 by default. Writes `sensitivity.json`
    and `plots/sensitivity.svg` to where the run's findings go. Raises EdgecifarError for a run
    that was fine-tuned with quantization in the loop, for too few images, for more to calibrate
    with than there are, and if another process is at work in that folder.
    """
    if images < 1:
        raise EdgecifarError(f"{images} images: give 1 or more")
    if calibration is not None:
        require_count(dataset, calibration)
    run.require_data(dataset)
    model = run.load_model()
    if is_quantization_aware(model):
        raise EdgecifarError(
            f"{run.name} was fine-tuned for int8: ask about {run.info['parent']}, the run it came "
            "from"
        )
    chosen = calibration_images(dataset, calibration or CALIBRATION_IMAGES)
    with alone_in(run.findings):  # where nothing can be written, it fails before hours of work
        measured = measure(ranged(model, chosen), dataset.validation, images, track)
        write_json(run.findings / "sensitivity.json", measured.as_json())
        write_whole(
            run.findings / "plots" / "sensitivity.svg", partial(_save, plot(measured, run.name))
        )
    return measured


def measure(file: Ranged, split: "Split", images: int, track: Track = iter) -> Sensitivity:
    """Measure each layer of a converted model on the first `images` of a split."""
    pixels, labels = split.images[:images], np.asarray(split.labels[:images])
    reference = probabilities(file.quantized_alone(None), pixels)
    top1 = _top1(reference, labels)
    layers = []
    for unit in track(file.units):
        found = probabilities(file.quantized_alone(unit), pixels)
        layers.append(
            LayerSensitivity(
                unit.name,
                unit.layers,
                unit.operations,
                _top1(found, labels) - top1,
                divergence(reference, found),
            )
        )
    return Sensitivity(len(labels), file.calibration, top1, tuple(layers))


def divergence(reference: np.ndarray, found: np.ndarray) -> float:
    """Return the mean Kullback-Leibler divergence of `found` from `reference` in nats.

    Both are probabilities, float [n, classes]; those of int8 files only nearly sum to 1.
    """
    first, second = (np.maximum(each, _LEAST) for each in (reference, found))
    first, second = (each / each.sum(axis=1, keepdims=True) for each in (first, second))
    return float((first * np.log(first / second)).sum(axis=1).mean())


def plot(measured: Sensitivity, name: str) -> "Figure":
    """Draw the divergence of each layer as bars, the model's first layer on top."""
    from matplotlib.figure import Figure

    layers = measured.layers
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(layers)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(layers)), [each.divergence for each in layers], color="#3b6fb6")
    axes.bar_label(bars, [f"{each.top1_change:+.2f} points" for each in layers], padding=3)
    axes.set_yticks(range(len(layers)), [each.layer for each in layers])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel(f"divergence from float (nats), mean of {measured.images:,} validation images")
    axes.set_title(f"{name}: one layer at a time in int8")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, format="svg")


def _top1(found: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float((found.argmax(axis=1) == labels).mean())
