"""What can be asked of an int8 export: layers left in float, a budget, calibration images."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.budget import require_drop, search_in_float
from edgecifar.compress.calibration import (
    CALIBRATION_IMAGES,
    calibration_images,
    outliers,
    require_count,
)
from edgecifar.compress.formats import FORMATS, Format
from edgecifar.compress.layers import owners_in
from edgecifar.compress.onnx_int8 import quantized_layers as quantized_in_onnx
from edgecifar.compress.onnx_int8 import to_onnx_int8
from edgecifar.compress.onnx_kernels import require_integer_kernels
from edgecifar.compress.selective import (
    quantize_but,
    quantized_layers,
    ranged,
    require_float_only,
    units_with,
)
from edgecifar.compress.sensitivity import Track
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.keras_files import is_quantization_aware
from edgecifar.train.progress import Report
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset

INT8, ONNX = "int8", "onnx-int8"  # the formats that all of this is about
# Sums in float depend on their order, and rounded to int8 again they may come to the next step.
_TOLERANCES = (0.02, 0.1)


@dataclass(frozen=True)
class Int8:
    """How int8 files are to be made; `calibration` counts for all integer files."""

    keep_float: tuple[str, ...] = ()  # Keras layers
    max_drop: float | None = None  # points of top-1 that may be lost, whatever stays in float
    calibration: int | None = None  # images that ranges are taken from

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_float", tuple(dict.fromkeys(self.keep_float)))

    def require_fit(
        self, run: Run, model: "keras.Model", dataset: "Dataset", formats: Collection[str]
    ) -> None:
        """Raise EdgecifarError if that can't be done with the model of `run`."""
        if self.calibration is not None:
            require_count(dataset, self.calibration)
            if is_quantization_aware(model):
                raise EdgecifarError(
                    f"{run.name} was fine-tuned for int8 and has ranges of its own: leave "
                    "--calibration out"
                )
            if not any(FORMATS[name].takes_ranges(model) for name in formats):
                raise EdgecifarError("--calibration is for integer files: give --int8 too")
        if not self.keep_float and self.max_drop is None:
            return
        option = "--keep-float" if self.keep_float else "--max-drop"
        if {INT8, ONNX}.isdisjoint(formats):
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
        if self.keep_float:
            units_with(model, self.keep_float)

    def images(
        self, model: "keras.Model", dataset: "Dataset", forms: Collection[Format]
    ) -> np.ndarray:
        """Return the calibration images, uint8 [n, height, width, 3]; none if no format asks."""
        if not any(form.takes_ranges(model) for form in forms):
            return dataset.train.images[:0]
        return calibration_images(dataset, self.calibration or CALIBRATION_IMAGES)

    def formats(self, run: Run) -> dict[str, Format]:
        """Return all formats; int8 with the layers in float, or those `run` was fine-tuned with."""
        layers = self.keep_float or tuple(run.info.get("keep_float", ()))
        return FORMATS | {name: int8_but(layers, name) for name in (INT8, ONNX)}

    def formats_within_budget(
        self,
        model: "keras.Model",
        dataset: "Dataset",
        calibration: np.ndarray,
        report: Report,
        track: Track,
    ) -> dict[str, Format]:
        """Return the int8 formats with layers in float so that `max_drop` is kept to.

        The search measures TFLite files; the ONNX file has the same layers in float.
        """
        choice = search_in_float(
            ranged(model, calibration), model, dataset, self.max_drop, report=report, track=track
        )
        report(choice.text)
        found = int8_but(choice.layers)
        found = dataclasses.replace(found, convert=lambda model, images: choice.chosen.payload)
        return {INT8: found, ONNX: int8_but(choice.layers, ONNX)}


def int8_but(layers: tuple[str, ...], name: str = INT8) -> Format:
    """Return an int8 format by its name, with `layers`, and what is fused with them, in float."""
    if not layers:
        return FORMATS[name]
    traits = _onnx_but(layers) if name == ONNX else _tflite_but(layers)
    return dataclasses.replace(FORMATS[name], float_layers=layers, **traits)


def _tflite_but(layers: tuple[str, ...]) -> dict[str, Any]:
    return {
        "tolerances": _TOLERANCES,
        "convert": lambda model, images: quantize_but(layers, model, images),
        "inspect": lambda payload, model, name: require_float_only(
            layers, model, payload, name=name
        ),
    }


def _onnx_but(layers: tuple[str, ...]) -> dict[str, Any]:
    def inspect(payload: bytes, model: "keras.Model", name: str) -> str:
        owners, units = owners_in(model), units_with(model, layers)
        kept = {layer for unit in units for layer in unit.layers}
        found = require_integer_kernels(payload, owners, name=name, kept=kept)
        floats = set(owners.named(";".join((*found.computing, found.softmax or ""))))
        # Additions and the like, which round no more than what goes in and comes out.
        rounded = [unit.name for unit in units if floats.isdisjoint(unit.layers)]
        but = f", but integer kernels for {', '.join(rounded)} all the same" if rounded else ""
        return f"{found.text}, for {', '.join(layers)} in float{but}"

    return {
        "convert": lambda model, images: to_onnx_int8(model, images, keep_float=layers),
        "inspect": inspect,
    }


def range_warnings(
    model: "keras.Model", form: Format, payload: bytes, calibration: np.ndarray
) -> list[str]:
    """Return a line for each layer of an int8 file whose range a handful of values set.

    None for 16-bit activations, which such a range leaves more steps than int8 ever has, and for
    a fine-tuned model, which brings its own ranges.
    """
    if form.name != INT8 or is_quantization_aware(model):
        return []
    if form.suffix == ".onnx":
        layers = quantized_in_onnx(payload, owners_in(model))
    else:
        layers = quantized_layers(model, payload)
    return [found.warning for found in outliers(model, calibration, layers)]
