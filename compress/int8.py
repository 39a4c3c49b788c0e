"""What can be asked of an int8 export: layers left in float, a budget, calibration images."""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.budget import fewest_in_float, require_drop
from edgecifar.compress.calibration import (
    CALIBRATION_IMAGES,
    calibration_images,
    outliers,
    require_count,
)
from edgecifar.compress.formats import FORMATS, Format
from edgecifar.compress.inspect import operations, require_int8
from edgecifar.compress.selective import (
    owners_in,
    quantized_layers,
    ranged,
    require_layers,
    stays_float,
)
from edgecifar.compress.sensitivity import Track
from edgecifar.compress.tflite import is_quantization_aware, to_tflite
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

NAME = "int8"  # of the format that all of this is about
# Sums in float depend on their order, and rounded to int8 again they may come to the next step.
_TOLERANCES = (0.02, 0.1)

Report = Callable[[str], object]


@dataclass(frozen=True)
class Int8:
    """How an int8 TFLite file is to be made; `calibration` counts for all integer files."""

    keep_float: tuple[str, ...] = ()  # Keras layers
    max_drop: float | None = None  # points of top-1 that may be lost, whatever stays in float
    calibration: int | None = None  # images that ranges are taken from

    def require_fit(
        self, run: Run, model: "keras.Model", dataset: "Dataset", formats: Collection[str]
    ) -> None:
        """Raise EdgecifarError if that can't be done with the model of `run`."""
        if self.calibration is not None:
            require_count(dataset, self.calibration)
        if not self.keep_float and self.max_drop is None:
            return
        option = "--keep-float" if self.keep_float else "--max-drop"
        if NAME not in formats:
            raise EdgecifarError(f"{option} is for int8 files: give --int8 too")
        if self.keep_float and self.max_drop is not None:
            raise EdgecifarError("--max-drop finds the layers to keep in float: leave one out")
        if is_quantization_aware(model):
            raise EdgecifarError(
                f"{run.name} was fine-tuned for int8: {option} comes too late, give --keep-float "
                "to `edgecifar quantize`"
            )
        if self.max_drop is not None:
            require_drop(self.max_drop)
        require_layers(model, self.keep_float)

    def images(self, dataset: "Dataset") -> np.ndarray:
        """Return the calibration images, uint8 [n, height, width, 3]."""
        return calibration_images(dataset, self.calibration or CALIBRATION_IMAGES)

    def format(self, run: Run) -> Format:
        """Return the int8 format: with the layers in float, or those `run` was fine-tuned with."""
        return int8_but(self.keep_float or tuple(run.info.get("keep_float", ())))

    def format_within_budget(
        self,
        model: "keras.Model",
        dataset: "Dataset",
        calibration: np.ndarray,
        report: Report,
        track: Track,
    ) -> Format:
        """Return the int8 format with the fewest layers in float that `max_drop` allows."""
        choice = fewest_in_float(
            ranged(model, calibration), model, dataset, self.max_drop, report=report, track=track
        )
        report(choice.text)
        return dataclasses.replace(
            int8_but(choice.layers), convert=lambda model, images: choice.chosen.payload
        )


def int8_but(layers: tuple[str, ...]) -> Format:
    """Return the int8 format with `layers`, and what is fused with them, in float."""
    if not layers:
        return FORMATS[NAME]
    return dataclasses.replace(
        FORMATS[NAME],
        float_layers=layers,
        tolerances=_TOLERANCES,
        convert=lambda model, images: to_tflite(model, NAME, images, keep_float=layers),
        inspect=partial(_inspect, layers),
    )


def range_warnings(model: "keras.Model", payload: bytes, calibration: np.ndarray) -> Iterator[str]:
    """Yield a line for each layer of an int8 file whose range a handful of values set."""
    if is_quantization_aware(model):  # brings its own ranges
        return
    for found in outliers(model, calibration, quantized_layers(model, payload)):
        yield found.warning


def _inspect(layers: tuple[str, ...], payload: bytes, model: "keras.Model", name: str) -> str:
    """Say what a file computes in; raise EdgecifarError if other layers are in float."""
    owners = owners_in(model)
    require_int8(payload, name=name, may_be_float=partial(stays_float, owners, layers))
    found = operations(payload)
    floats = sum(op.is_float for op in found)
    return (
        f"{len(found) - floats} operations on integers; {floats} in float or leading there, for "
        f"{', '.join(layers)}"
    )
