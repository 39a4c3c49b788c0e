"""What a TFLite file really computes in: the dtypes of every operation."""

from collections.abc import Callable
from dataclasses import dataclass

from edgecifar.runtime.encoding import STEPS_A_PIXEL
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import MEAN, SCALE

_ROUNDING = 1e-4  # of a scale in float32


BETWEEN = ("QUANTIZE", "DEQUANTIZE")  # what stands where int8 and float meet


@dataclass(frozen=True)
class Operation:
    """An operation of a TFLite graph, with the names and dtypes of its tensors."""

    name: str  # such as CONV_2D
    output: str  # the tensor it writes, which carries the Keras layer's name
    tensor: int  # its index
    inputs: tuple[str, ...]  # dtypes, such as int8
    outputs: tuple[str, ...]
    constants: tuple[str, ...]  # the names of weights and the like that it reads

    @property
    def is_float(self) -> bool:
        """Whether any tensor of it holds floats."""
        return any(kind.startswith("float") for kind in (*self.inputs, *self.outputs))


def operations(payload: bytes) -> list[Operation]:
    """List the operations of a TFLite model in their order."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(payload, 0)
    op_names = _constants(schema.BuiltinOperator)
    dtypes = _constants(schema.TensorType)
    found = []
    for graph in model.subgraphs:
        for op in graph.operators:
            code = model.operatorCodes[op.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)

            def kinds(indices, tensors=graph.tensors):
                return tuple(dtypes[tensors[i].type].lower() for i in indices if i >= 0)

            found.append(
                Operation(
                    name=op_names[builtin],
                    output=graph.tensors[op.outputs[0]].name.decode(),
                    tensor=int(op.outputs[0]),
                    inputs=kinds(op.inputs),
                    outputs=kinds(op.outputs),
                    constants=tuple(
                        graph.tensors[i].name.decode()
                        for i in op.inputs
                        if i >= 0 and model.buffers[graph.tensors[i].buffer].data is not None
                    ),
                )
            )
    return found


def require_int8(
    payload: bytes,
    *,
    name: str,
    kind: str = "int8",
    may_be_float: Callable[[Operation], bool] = lambda op: False,
) -> None:
    """Raise EdgecifarError, naming the operations, if an int8 (or int16x8) file computes in floats.

    Those of which `may_be_float` says so are meant to.
    """
    floats = [op for op in operations(payload) if op.is_float and not may_be_float(op)]
    floats = [op for op in floats if op.name not in BETWEEN] or floats
    if floats:
        listed = ", ".join(f"{op.name} ({op.output.split(';')[0]})" for op in floats[:3])
        more = f" and {len(floats) - 3} more" if len(floats) > 3 else ""
        raise EdgecifarError(
            f"{name} is not {kind} throughout, these stay in float: {listed}{more}: "
            "replace those layers, name them with --keep-float, or export --dynamic"
        )


def require_pixels(payload: bytes, *, name: str, kind: str = "int8") -> None:
    """Raise EdgecifarError unless the input of an int8 (or int16x8) file is all pixels' range.

    What comes of pixels by moves alone may be joined with other values in one scale: the converter
    then gives it to the input, whose integers are no pixels any more.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(payload, 0)
    graph = model.subgraphs[0]
    found = graph.tensors[graph.inputs[0]].quantization
    step, zero = (1, 128 - MEAN) if kind == "int8" else (STEPS_A_PIXEL, 0)
    scale, point = float(found.scale[0]), int(found.zeroPoint[0])
    if abs(scale * step * SCALE - 1) > _ROUNDING or point != -zero:
        raise EdgecifarError(
            f"{name} would take pixels in steps of {scale:.3g}, which aren't theirs: they meet "
            "other values, as in a Concatenate, before any layer has computed with them; fine-tune "
            "it by `edgecifar quantize`, or train on with a 1x1 convolution in front"
        )


def _constants(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}
