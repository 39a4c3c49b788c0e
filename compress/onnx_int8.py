"""Int8 ONNX files that run on integer kernels: raw uint8 pixels in, probabilities out.

onnxruntime fuses DequantizeLinear, operation and QuantizeLinear into an integer kernel only where
nothing stands between them, and its x86 kernels want uint8 activations with int8 weights (with
int8 activations most convolutions stay in float). Therefore the graph is quantized in ONNX's own
layout, channels first, and pixels are turned while they are still bytes.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.layers import layer_of
from edgecifar.compress.tflite import is_quantization_aware
from edgecifar.compress.unwrap import unwrap
from edgecifar.runtime.quiet import quiet_stderr
from edgecifar.train.normalisation import MEAN, SCALE, normalise

if TYPE_CHECKING:
    import onnx
    import tf_keras as keras

_INPUT, _PIXELS, _TURNED = "image", "pixels", "pixels_channels_first"
_OPSET = 17
_BATCH = 100  # calibration images a run
_IN_FLOAT = ("Softmax",)  # of ten numbers: in 8 bits it saves nothing and loses small probabilities


def to_onnx_int8(model: "keras.Model", calibration: np.ndarray) -> bytes:
    """Convert `model`, which takes normalised images, to int8 ONNX for any number of images.

    The file takes uint8 pixels NHWC and gives float32 probabilities. `calibration` are uint8
    training images [n, height, width, 3]; a model that was fine-tuned with quantization in the
    loop brings the ranges of its activations, and images serve for the others alone.
    """
    ranges: dict[str, tuple[float, float]] = {}
    if is_quantization_aware(model):
        plain = unwrap(model)
        model, ranges = plain.model, plain.ranges
    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder, _quiet():
        path = Path(folder) / "float.onnx"
        _write_float(model, path)
        proto = _quantize(path, [layer.name for layer in model.layers], ranges, calibration)
    _take_pixels(proto.graph, model.input_shape[1:])
    _keep_logits(proto.graph)
    return proto.SerializeToString()


def _write_float(model: "keras.Model", path: Path) -> None:
    """Write the float graph with channels first, batch normalisation folded, shapes known."""
    import onnx
    import tensorflow as tf
    import tf2onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=_INPUT)]
    proto, _ = tf2onnx.convert.from_keras(
        model, input_signature=signature, opset=_OPSET, inputs_as_nchw=[_INPUT]
    )
    raw = path.with_name("raw.onnx")
    onnx.save(proto, raw)
    quant_pre_process(raw, path, skip_symbolic_shape=True)


def _quantize(
    path: Path, layers: list[str], ranges: dict[str, tuple[float, float]], images: np.ndarray
) -> "onnx.ModelProto":
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = onnx.load(path).graph
    overrides: dict[str, list[dict[str, Any]]] = {_INPUT: [_INPUT_QUANTIZATION]}
    for tensor in (name for node in graph.node for name in node.output):
        if (layer := layer_of(tensor, layers)) in ranges:
            low, high = ranges[layer]
            overrides[tensor] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    kinds = {node.op_type for node in graph.node} - set(_IN_FLOAT)
    target = path.with_name("int8.onnx")
    quantize_static(
        path,
        target,
        _Calibration(images),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted(kinds),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"TensorQuantOverrides": overrides},
    )
    return onnx.load(target)


# What makes of a pixel its normalised value, see `edgecifar.train.normalisation`.
_INPUT_QUANTIZATION = {
    "scale": np.array(1 / SCALE, np.float32),
    "zero_point": np.array(MEAN, np.uint8),
}


def _take_pixels(graph: "onnx.GraphProto", shape: tuple[int, int, int]) -> None:
    """Replace the float input and its QuantizeLinear by uint8 pixels NHWC, turned as bytes."""
    import onnx

    (quantizer,) = (node for node in graph.node if _INPUT in node.input)
    turn = onnx.helper.make_node(
        "Transpose", [_PIXELS], list(quantizer.output), name=_TURNED, perm=[0, 3, 1, 2]
    )
    graph.node.remove(quantizer)
    graph.node.insert(0, turn)
    del graph.input[:]
    graph.input.append(
        onnx.helper.make_tensor_value_info(_PIXELS, onnx.TensorProto.UINT8, ["n", *shape])
    )


def _keep_logits(graph: "onnx.GraphProto") -> None:
    """Give the last softmax its logits as the dense layer's kernel sums them, not in 8 bits."""
    made_by = {name: node for node in graph.node for name in node.output}
    softmax = made_by[graph.output[0].name]
    wide = made_by.get(softmax.input[0])
    narrow = made_by.get(wide.input[0]) if wide else None
    if softmax.op_type == "Softmax" and narrow and narrow.op_type == "QuantizeLinear":
        softmax.input[0] = narrow.input[0]
        graph.node.remove(wide)
        graph.node.remove(narrow)
        unused = set(narrow.input[1:])
        kept = [tensor for tensor in graph.initializer if tensor.name not in unused]
        del graph.initializer[:]
        graph.initializer.extend(kept)


class _Calibration:
    """Feeds normalised images, channels first, to onnxruntime's calibration."""

    def __init__(self, images: np.ndarray):
        self._batches = self._iterate(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the input, None after the last."""
        return next(self._batches, None)

    @staticmethod
    def _iterate(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(images), _BATCH):
            batch = normalise(images[start : start + _BATCH].astype(np.float32))
            yield {_INPUT: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' progress reports from the user: they log to the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet_stderr():
            yield
    finally:
        logging.disable(level)
