"""Int8 ONNX files that run on integer kernels: raw uint8 pixels in, probabilities out.

onnxruntime fuses DequantizeLinear, operation and QuantizeLinear into an integer kernel only where
nothing stands between them, and its x86 kernels want uint8 activations with int8 weights (with
int8 activations most convolutions stay in float). Therefore the graph is quantized in ONNX's own
layout, channels first, and pixels are turned while they are still bytes.
"""

import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.compress.conversion import converting
from edgecifar.compress.layers import Owners, owners_in
from edgecifar.compress.onnx import from_keras, quiet_converters
from edgecifar.compress.selective import fused_with
from edgecifar.compress.unwrap import Unwrapped, unwrap
from edgecifar.train.keras_files import is_quantization_aware
from edgecifar.train.normalisation import MEAN, SCALE, normalise

if TYPE_CHECKING:
    import onnx
    import tf_keras as keras

_INPUT, _PIXELS, _TURNED = "image", "pixels", "pixels_channels_first"
_OPSET = 17
_BATCH = 100  # calibration images a run
_BOUNDS = ("Clip", "Relu")  # which onnxruntime takes into the quantization before them
_SUMS = ("Conv", "Gemm", "MatMul")  # whose kernels can put out what they summed, in float
_MOVES = ("Flatten", "Reshape", "Squeeze", "Transpose")
_IN_FLOAT = ("Softmax",)  # of ten numbers: in 8 bits it saves nothing and loses small probabilities


def to_onnx_int8(
    model: "keras.Model", calibration: np.ndarray, *, keep_float: Collection[str] = ()
) -> bytes:
    """Convert `model`, which takes normalised images, to int8 ONNX for any number of images.

    The file takes uint8 pixels NHWC and gives float32 probabilities. `calibration` are uint8
    training images [n, height, width, 3]; a model that was fine-tuned with quantization in the
    loop brings the ranges of its activations, and images serve for the others alone. Layers in
    `keep_float` stay in float, with those that TFLite fuses with them.
    """
    kept = fused_with(model, keep_float) if keep_float else set()
    plain = unwrap(model) if is_quantization_aware(model) else Unwrapped(model, {}, {})
    model = plain.model
    folder = tempfile.TemporaryDirectory(prefix="edgecifar-")
    with folder, quiet_converters(), converting("int8 ONNX"):
        path = Path(folder.name) / "float.onnx"
        _write_float(model, path)
        proto = _quantize(path, owners_in(model), kept, plain, calibration)
    _take_pixels(proto.graph, model.input_shape[1:])
    _keep_logits(proto.graph)
    return proto.SerializeToString()


def _write_float(model: "keras.Model", path: Path) -> None:
    """Write the float graph with channels first, batch normalisation folded, shapes known."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    proto = from_keras(model, _INPUT, opset=_OPSET, channels_first=True)
    raw = path.with_name("raw.onnx")
    onnx.save(proto, raw)
    quant_pre_process(raw, path, skip_symbolic_shape=True)
    folded = onnx.load(path)
    _norms_as_convolutions(folded.graph)
    _frames_of_pools(folded.graph)
    onnx.save(folded, path)


def _norms_as_convolutions(graph: "onnx.GraphProto") -> None:
    """Replace batch norms that no convolution took in, which have no integer kernel of their own.

    A norm of image channels is a depthwise convolution of one pixel.
    """
    import onnx

    values = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in graph.value_info}
    for index, norm in enumerate(graph.node):
        if norm.op_type != "BatchNormalization" or ranks.get(norm.input[0]) != 4:
            continue
        if any(name not in values for name in norm.input[1:]):  # of layer normalisation
            continue
        gamma, beta, mean, variance = (
            onnx.numpy_helper.to_array(values[name]) for name in norm.input[1:]
        )
        epsilon = next((each.f for each in norm.attribute if each.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        arrays = {"factor": factor.reshape(-1, 1, 1, 1), "bias": beta - mean * factor}
        names = [f"{norm.name}_{what}" for what in arrays]
        graph.initializer.extend(
            onnx.numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in zip(names, arrays.values(), strict=True)
        )
        graph.node[index].CopyFrom(
            onnx.helper.make_node(
                "Conv",
                [norm.input[0], *names],
                list(norm.output),
                name=norm.name,
                group=len(factor),
                kernel_shape=[1, 1],
            )
        )
    _drop_unused(graph)


def _frames_of_pools(graph: "onnx.GraphProto") -> None:
    """Let maximum pooling put zeros around images itself: a Pad has no integer kernel.

    It puts none there, which is the same where no value is below zero.
    """
    import onnx

    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        pad = made_by.get(pool.input[0])
        if pad is None or pad.op_type != "Pad" or pad.input[1] not in values:
            continue
        source = made_by.get(pad.input[0])
        if source is None or not (source.op_type == "Relu" or _is_clipped_at_zero(source, values)):
            continue
        around = values[pad.input[1]]  # before and after: images, channels, height and width
        given = {each.name: each for each in pool.attribute}
        if "auto_pad" in given and given["auto_pad"].s not in (b"VALID", b"NOTSET"):
            continue
        within = [*given["pads"].ints] if "pads" in given else [0] * 4
        frame = [int(n) + w for n, w in zip((*around[2:4], *around[6:]), within, strict=True)]
        kernel = given["kernel_shape"].ints
        if max(frame[0], frame[2]) >= kernel[0] or max(frame[1], frame[3]) >= kernel[1]:
            continue  # a place that sees the frame alone
        for name in {"pads", "auto_pad"} & given.keys():
            pool.attribute.remove(given[name])
        pool.attribute.append(onnx.helper.make_attribute("pads", frame))
        pool.input[0] = pad.input[0]
        if not any(pad.output[0] in node.input for node in graph.node):
            graph.node.remove(pad)
    _drop_unused(graph)


def _is_clipped_at_zero(node: "onnx.NodeProto", values: Mapping[str, np.ndarray]) -> bool:
    return node.op_type == "Clip" and float(values.get(node.input[1], -1)) >= 0


def _drop_unused(graph: "onnx.GraphProto") -> None:
    """Remove constants that no node reads."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _quantize(
    path: Path,
    owners: Owners,
    kept: Collection[str],
    found: Unwrapped,
    images: np.ndarray,
) -> "onnx.ModelProto":
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = onnx.load(path).graph
    overrides = {_INPUT: [_INPUT_QUANTIZATION]}
    overrides |= _found_ranges(graph, owners, found.ranges) | _found_steps(graph, owners, found)
    kinds = {node.op_type for node in graph.node} - set(_IN_FLOAT)
    excluded = [node.name for node in graph.node if _is_of(node, owners, kept)]
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
        nodes_to_exclude=excluded,
        extra_options={
            "TensorQuantOverrides": overrides,
            # Pooling and the like stay in float behind a layer in float, unless told not to.
            "ForceQuantizeNoInputCheck": bool(excluded),
        },
    )
    proto = onnx.load(target)
    _hold_in_float(proto.graph, excluded)
    return proto


def _found_ranges(
    graph: "onnx.GraphProto", owners: Owners, ranges: dict[str, tuple[float, float]]
) -> dict[str, list[dict[str, Any]]]:
    """Return the ranges that fine-tuning found, by the tensors that leave a layer.

    What a layer keeps to itself, as the sigmoid of swish, has another. What it only bounds has not.
    """
    overrides = {}
    for tensor in (name for node in graph.node for name in node.output):
        if (layer := owners.put_out(tensor)) not in ranges:
            continue
        readers = [node for node in graph.node if tensor in node.input]
        within = [owners.put_out(node.output[0]) == layer for node in readers]
        if readers and all(within) and any(node.op_type not in _BOUNDS for node in readers):
            continue
        low, high = ranges[layer]
        overrides[tensor] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    return overrides


def _found_steps(
    graph: "onnx.GraphProto", owners: Owners, found: Unwrapped
) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of weights that fine-tuning settled on, where channels share one.

    Norms may be folded into the weights meanwhile, which scales channels and steps alike.
    """
    import onnx

    overrides, values = {}, {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in values:
            continue
        layers = owners.named(";".join((node.name, *node.output)))
        steps = next((found.steps[layer] for layer in layers if layer in found.steps), None)
        weights = onnx.numpy_helper.to_array(values[node.input[1]])
        axis = _channel_axis(node)
        if steps is None or weights.shape[axis] != len(steps) or (steps == 127).all():
            continue
        largest = np.abs(np.moveaxis(weights, axis, 0).reshape(len(steps), -1)).max(axis=1)
        overrides[node.input[1]] = [
            {"axis": axis, "scale": np.float32(most / count or 1), "zero_point": np.int8(0)}
            for most, count in zip(largest, np.maximum(steps, 1), strict=True)
        ]
    return overrides


def _channel_axis(node: "onnx.NodeProto") -> int:
    """Return the axis of a node's weights along which what it gives lies."""
    turned = any(each.name == "transB" and each.i for each in node.attribute)
    return 0 if node.op_type == "Conv" or turned else 1


def _hold_in_float(graph: "onnx.GraphProto", names: Collection[str]) -> None:
    """Keep onnxruntime from quantizing the weights of these nodes itself, between int8 neighbours.

    It does so where it finds weights and bias as float constants. A bias of 32 bits isn't
    one, and loses nothing: float32 has 24 bits.
    """
    import onnx

    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in [each for each in graph.node if each.name in names]:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        known = values.get(node.input[2]) if len(node.input) > 2 else None
        bias = onnx.numpy_helper.to_array(known) if known else np.zeros(_channels(node, values))
        scale = np.float32(np.abs(bias).max() / 2**30 or 1)
        constants = {
            f"{node.name}_bias_of_32_bits": np.round(bias / scale).astype(np.int32),
            f"{node.name}_bias_of_32_bits_scale": scale,
        }
        graph.initializer.extend(
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        )
        wide = f"{node.name}_bias_in_float"
        graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", [*constants], [wide], wide))
        node.input[:] = [*node.input[:2], wide]
    _drop_unused(graph)


def _channels(node: "onnx.NodeProto", values: dict[str, "onnx.TensorProto"]) -> int:
    """Return how many numbers a node without bias gives for a pixel or an image."""
    return values[node.input[1]].dims[_channel_axis(node)]


def _is_of(node: "onnx.NodeProto", owners: Owners, layers: Collection[str]) -> bool:
    names = ";".join((node.name, *node.output))
    return not set(layers).isdisjoint(owners.named(names))


# What makes of a pixel its normalised value, see `edgecifar.train.normalisation`.
_INPUT_QUANTIZATION = {
    "scale": np.array(1 / SCALE, np.float32),
    "zero_point": np.array(MEAN, np.uint8),
}


def _take_pixels(graph: "onnx.GraphProto", shape: tuple[int, int, int]) -> None:
    """Replace the float input and its QuantizeLinear by uint8 pixels NHWC, turned as bytes.

    A first layer that stays in float gets them normalised by a DequantizeLinear.
    """
    import onnx

    readers = [node for node in graph.node if _INPUT in node.input]
    quantizers = [node for node in readers if node.op_type == "QuantizeLinear"]
    turned = quantizers[0].output[0] if quantizers else _TURNED
    for node in quantizers:
        graph.node.remove(node)
    if len(readers) > len(quantizers):
        named = {f"{_INPUT}_{key}": value for key, value in _INPUT_QUANTIZATION.items()}
        known = {tensor.name for tensor in graph.initializer}
        graph.initializer.extend(
            onnx.numpy_helper.from_array(value, name)
            for name, value in named.items()
            if name not in known
        )
        widen = onnx.helper.make_node(
            "DequantizeLinear", [turned, *named], [_INPUT], name=f"{_INPUT}_DequantizeLinear"
        )
        graph.node.insert(0, widen)
    turn = onnx.helper.make_node("Transpose", [_PIXELS], [turned], name=_TURNED, perm=[0, 3, 1, 2])
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
    if softmax.op_type != "Softmax" or not narrow or narrow.op_type != "QuantizeLinear":
        return
    source = made_by.get(narrow.input[0])
    while source is not None and source.op_type in _MOVES:
        source = made_by.get(source.input[0])
    if source is not None and source.op_type in _SUMS:
        softmax.input[0] = narrow.input[0]
        graph.node.remove(wide)
        graph.node.remove(narrow)
        _drop_unused(graph)


def quantized_layers(payload: bytes, owners: Owners) -> list[str]:
    """Return the layers whose output has a range of its own in an int8 file, in their order."""
    import onnx

    nodes = onnx.load_model_from_string(payload).graph.node
    tensors = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    found = {owners.put_out(name) for name in tensors}
    return [layer for layer in owners.layers if layer in found]


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
