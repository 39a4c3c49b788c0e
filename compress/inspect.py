"""What a TFLite file really computes in: the dtypes of every operation."""

from collections.abc import Callable
from dataclasses import dataclass

from edgecifar.runtime.errors import EdgecifarError


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
    if floats:
        listed = ", ".join(f"{op.name} ({op.output.split(';')[0]})" for op in floats[:3])
        more = f" and {len(floats) - 3} more" if len(floats) > 3 else ""
        raise EdgecifarError(
            f"{name} is not {kind} throughout, these stay in float: {listed}{more}: "
            "replace those layers, or export --dynamic"
        )


def _constants(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}
