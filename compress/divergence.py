"""Where an exported file leaves its Keras model: errors of intermediate tensors, layer by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.inspect import operations
from edgecifar.compress.layers import Owners, owners_in
from edgecifar.runtime.encoding import pixel_writer
from edgecifar.runtime.interpreters import TensorSpec, onnx_session
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.runtime.quiet import quiet_stderr
from edgecifar.train.normalisation import normalise
from edgecifar.train.pipeline import images_kept_at_once

if TYPE_CHECKING:
    import tf_keras as keras

_IMAGES = 16  # tell layers apart: each gives thousands of values


@dataclass(frozen=True)
class LayerError:
    """How far a file's output of a Keras layer is from Keras' own.

    `error` is the root mean square of the difference, relative to that of Keras' output. `fused`
    are the layers before it that the converter made one operation with it.
    """

    layer: str
    error: float
    fused: tuple[str, ...] = ()

    def __str__(self) -> str:
        fused = f" (one operation with {', '.join(self.fused)})" if self.fused else ""
        return f"first layer to differ is {self.layer}{fused}, by {self.error:.1%}"


def layer_errors(model: "keras.Model", file: ModelFile, images: np.ndarray) -> list[LayerError]:
    """Compare `file` with `model` on some of `images`, uint8, layer by layer in the model's order.

    A layer that the converter fused into another, as batch normalisation into a convolution, has
    no tensor of its own and is listed with that.
    """
    images = images[: min(_IMAGES, images_kept_at_once(model))]
    owners = owners_in(model)
    expected = _keras_outputs(model, images, owners)
    trace = _tflite_outputs if file.kind == "tflite" else _onnx_outputs
    nearest: dict[str, float] = {}
    for layer, found in trace(file, images, owners):
        error = _error(expected[layer], found)
        if error is not None:  # converters may name a layer twice: its own tensor is the nearest
            nearest[layer] = min(error, nearest.get(layer, np.inf))
    fused = _fused(model, set(nearest), owners)
    return [LayerError(name, nearest[name], fused[name]) for name in expected if name in nearest]


def first_diverging(errors: Sequence[LayerError], limit: float) -> LayerError | None:
    """Return the first layer whose error is above `limit` or not a number, None if there's none."""
    return next((found for found in errors if not found.error <= limit), None)


def _keras_outputs(
    model: "keras.Model", images: np.ndarray, owners: Owners
) -> dict[str, np.ndarray]:
    import tf_keras as keras

    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    probe = keras.Model(model.inputs, [layer.get_output_at(0) for layer in layers])
    values = probe(normalise(images.astype(np.float32)), training=False)
    values = values if isinstance(values, list) else [values]  # a model of a single layer
    return {owners.plain(each.name): v.numpy() for each, v in zip(layers, values, strict=True)}


def _fused(model: "keras.Model", known: set[str], owners: Owners) -> dict[str, tuple[str, ...]]:
    """Return for each layer those before it, in order, up to the last ones that are `known`."""
    import tf_keras as keras

    fused: dict[str, tuple[str, ...]] = {}
    for layer in model.layers:
        before: list[str] = []
        for parent in layer.inbound_nodes[0].parent_nodes:
            name = owners.plain(parent.layer.name)
            if name not in known and not isinstance(parent.layer, keras.layers.InputLayer):
                before += [*fused[name], name]
        fused[owners.plain(layer.name)] = tuple(dict.fromkeys(before))
    return fused


def _tflite_outputs(
    file: ModelFile, images: np.ndarray, owners: Owners
) -> Iterator[tuple[str, np.ndarray]]:
    """Run without XNNPACK, which fuses operations and so keeps no intermediate tensors."""
    from ai_edge_litert import interpreter as litert

    with quiet_stderr():
        interpreter = litert.Interpreter(
            model_content=file.payload,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    (last,) = interpreter.get_output_details()
    spec = TensorSpec(tuple(taken["shape"]), np.dtype(taken["dtype"]), *taken["quantization"])
    tensor = np.empty(spec.shape, spec.dtype)
    write = pixel_writer(tensor, spec, file.metadata)
    tensors = {}
    for found in operations(file.payload):
        ends = found.tensor == last["index"]
        tensors[found.tensor] = owners.last if ends else owners.put_out(found.output)
    tensors = {index: layer for index, layer in tensors.items() if layer}
    outputs: dict[int, list[np.ndarray]] = {index: [] for index in tensors}
    scales = {each["index"]: each["quantization"] for each in interpreter.get_tensor_details()}
    for image in images:
        write(image)
        interpreter.set_tensor(taken["index"], tensor)
        interpreter.invoke()
        for index, values in outputs.items():
            values.append(_real(interpreter.get_tensor(index), *scales[index]))
    for index, values in outputs.items():
        yield tensors[index], np.concatenate(values)


def _onnx_outputs(
    file: ModelFile, images: np.ndarray, owners: Owners
) -> Iterator[tuple[str, np.ndarray]]:
    """Run with intermediate tensors as further outputs.

    In a quantized graph those are what DequantizeLinear gives: an output between an operation and
    its QuantizeLinear would keep the two from becoming one integer kernel.
    """
    import onnx
    import onnxruntime

    proto = onnx.load_model_from_string(file.payload)
    graph = proto.graph
    (taken,), (last,) = graph.input, graph.output
    quantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    constants = {tensor.name for tensor in graph.initializer}
    tensors = {last.name: owners.last}
    for node in graph.node:
        of_constant = node.op_type == "DequantizeLinear" and node.input[0] in constants
        if node.op_type == "QuantizeLinear" or of_constant:
            continue
        for name in (name for name in node.output if name not in quantized):
            if (layer := owners.put_out(name)) and name not in tensors:
                tensors[name] = layer
    graph.output.extend(onnx.ValueInfoProto(name=n) for n in tensors if n != last.name)
    session = onnx_session(onnxruntime, proto.SerializeToString())
    (spec,) = session.get_inputs()
    pixels = images.astype(np.uint8 if "uint8" in spec.type else np.float32)
    yield from zip(tensors.values(), session.run(list(tensors), {taken.name: pixels}), strict=True)


def _real(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return (values.astype(np.float32) - zero_point) * scale if scale else values


def _error(expected: np.ndarray, found: np.ndarray) -> float | None:
    """Return the relative error in the layout that fits, None if none does."""
    layouts = [found]
    if found.ndim == 4:
        layouts.append(found.transpose(0, 2, 3, 1))  # ONNX has channels first
    if found.size == expected.size and found.ndim != expected.ndim:
        layouts.append(found.reshape(expected.shape))  # such as [n, 1, 1, channels]
    size = np.sqrt(np.mean(np.square(expected, dtype=np.float64))) or 1.0
    errors = [
        float(np.sqrt(np.mean(np.square(each - expected, dtype=np.float64))) / size)
        for each in layouts
        if each.shape == expected.shape
    ]
    return min(errors, default=None)
