"""Int8 files in which chosen layers stay in float."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.conversion import converting
from edgecifar.compress.inspect import (
    BETWEEN,
    Operation,
    operations,
    require_int8,
    require_pixels,
)
from edgecifar.compress.layers import Owners, owners_in
from edgecifar.compress.preflight import require_known
from edgecifar.compress.tflite import NOISE, converter_of, samples
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.quiet import quiet_stderr
from edgecifar.train.keras_files import is_quantization_aware

if TYPE_CHECKING:
    import tf_keras as keras

_LISTED = 3  # layers whose names a file's name has room for


@dataclass(frozen=True)
class Unit:
    """What goes into int8, or stays in float, as a whole: a layer and all that is fused into it."""

    name: str  # of the first of the layers: the convolution of convolution, norm and ReLU
    layers: tuple[str, ...]
    operations: tuple[str, ...]  # such as CONV_2D
    tensors: tuple[str, ...]  # that they write


@dataclass(frozen=True)
class Ranged:
    """A model in TFLite's float form, with the ranges that int8 files are made from."""

    payload: bytes
    units: tuple[Unit, ...]
    loose: tuple[str, ...]  # tensors of operations that belong to no layer
    calibration: int  # images that the ranges were taken from

    def units_of(self, layers: Iterable[str]) -> tuple[Unit, ...]:
        """Return the units that the layers are in.

        Raises EdgecifarError for a layer that is in none, since nothing is computed in it.
        """
        chosen = set()
        for layer in layers:
            unit = next((unit for unit in self.units if layer in unit.layers), None)
            if unit is None:
                raise EdgecifarError(
                    f"layer {layer} computes nothing in the file: leave it out of --keep-float"
                )
            chosen.add(unit.name)
        return tuple(unit for unit in self.units if unit.name in chosen)

    def quantized(self, floats: Collection[Unit] = ()) -> bytes:
        """Return the int8 file with `floats` in float; without any it is the converter's own."""
        return self._quantized([tensor for unit in floats for tensor in unit.tensors], whole=True)

    def quantized_alone(self, unit: Unit | None) -> bytes:
        """Return a file for float32 inputs in which no unit but `unit` is in int8."""
        others = [other for other in self.units if other != unit]
        tensors = [tensor for other in others for tensor in other.tensors]
        return self._quantized([*tensors, *self.loose], whole=False)

    def _quantized(self, float_tensors: list[str], *, whole: bool) -> bytes:
        """Quantize all but the operations that write `float_tensors`, inputs too if `whole`.

        It is what the converter itself calls, and QuantizationDebugger to leave operations out.
        """
        import tensorflow as tf
        from tensorflow.lite.python.convert import mlir_quantize

        ends = tf.int8 if whole else tf.float32
        with quiet_stderr(*NOISE), converting("int8 TFLite"):
            return mlir_quantize(
                self.payload,
                fully_quantize=whole,
                input_data_type=ends,
                output_data_type=ends,
                denylisted_nodes=float_tensors,
            )


def ranged(model: "keras.Model", calibration: np.ndarray) -> Ranged:
    """Convert `model`, and find its ranges on `calibration`, uint8 [n, height, width, 3].

    A model fine-tuned with quantization in the loop brings its own.
    """
    import tensorflow as tf

    converter = converter_of(model)
    if not is_quantization_aware(model):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: samples(calibration)
        converter._experimental_calibrate_only = True
    with quiet_stderr(*NOISE), converting("int8 TFLite"):
        payload = converter.convert()
    return _of(model, payload, len(calibration))


def _of(model: "keras.Model", payload: bytes, calibration: int = 0) -> Ranged:
    owners = owners_in(model)
    computing = [op for op in operations(payload) if op.name not in BETWEEN]
    loose = tuple(op.output for op in computing if not owners.of(op))
    return Ranged(payload, _units(computing, owners), loose, calibration)


def quantize_but(layers: Collection[str], model: "keras.Model", calibration: np.ndarray) -> bytes:
    """Return the int8 file of `model` with `layers`, and what is fused into them, in float."""
    file = ranged(model, calibration)
    return file.quantized(file.units_of(layers))


def require_float_only(
    layers: Collection[str], model: "keras.Model", payload: bytes, *, name: str
) -> str:
    """Return what an int8 file with `layers` in float computes in, in words.

    Raises EdgecifarError if others are in float, or those aren't: an operation counts as theirs if
    it is in the same unit.
    """
    file = _of(model, payload)
    kept = {tensor for unit in file.units_of(layers) for tensor in unit.tensors}
    require_int8(
        payload, name=name, may_be_float=lambda op: op.name in BETWEEN or op.output in kept
    )
    require_pixels(payload, name=name)
    found = operations(payload)
    if rounded := [op.output for op in found if op.output in kept and "int8" in op.outputs]:
        raise EdgecifarError(
            f"{name} has {', '.join(rounded[:3])} in int8, which --keep-float leaves in float: "
            "leave that layer out"
        )
    floats = sum(op.is_float for op in found)
    return (
        f"{len(found) - floats} operations on integers; {floats} in float or leading there, for "
        f"{', '.join(layers)}"
    )


def quantized_layers(model: "keras.Model", payload: bytes) -> list[str]:
    """Return the layers of `model` whose output has a range of its own in an int8 file.

    The last of those fused into an operation; softmax, whose range is fixed, is left out.
    """
    owners = owners_in(model)
    computing = (op for op in operations(payload) if op.name not in (*BETWEEN, "SOFTMAX"))
    last = {owned[-1] for op in computing if not op.is_float and (owned := owners.of(op))}
    return [layer for layer in owners.layers if layer in last]


def units_with(model: "keras.Model", layers: Iterable[str]) -> tuple[Unit, ...]:
    """Return `layers` of a model, each with those that TFLite fuses with it.

    Raises EdgecifarError for a layer that isn't there, or in which nothing is computed.
    """
    require_known(layers, owners_in(model).layers)
    with quiet_stderr(*NOISE), converting("TFLite"):
        payload = converter_of(model).convert()
    return _of(model, payload).units_of(layers)


def fused_with(model: "keras.Model", layers: Iterable[str]) -> set[str]:
    """Return `layers` of a model and those that TFLite fuses with them."""
    return {name for unit in units_with(model, layers) for name in unit.layers}


def file_part(layers: Sequence[str]) -> str:
    """Return what a file's name says of the layers in float, such as `-float-conv2d+dense`."""
    if not layers:
        return ""
    shown = [name.replace("/", "_") for name in layers[:_LISTED]]
    more = len(layers) - len(shown)
    return "-float-" + "+".join(shown) + (f"+{more}more" if more else "")


def _units(computing: Sequence[Operation], owners: Owners) -> tuple[Unit, ...]:
    """Gather operations that share a layer, as the two of a separable convolution do."""
    gathered: list[tuple[set[str], list[Operation]]] = []
    for operation in computing:
        layers = set(owners.of(operation))
        if not layers:
            continue
        for known, members in gathered:
            if not known.isdisjoint(layers):
                known.update(layers)
                members.append(operation)
                break
        else:
            gathered.append((layers, [operation]))
    units = []
    for layers, members in gathered:
        ordered = tuple(layer for layer in owners.layers if layer in layers)
        names = tuple(operation.name for operation in members)
        tensors = tuple(operation.output for operation in members)
        units.append(Unit(ordered[0], ordered, names, tensors))
    return tuple(units)
