"""What an int8 ONNX file really computes in: the kernels that onnxruntime makes of its graph."""

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.compress.layers import Owners
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import onnx_session

if TYPE_CHECKING:
    import onnx

# As onnxruntime names its integer kernels, whatever stands behind.
_INTEGER = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize")
_ALL_OF_QGEMM = 9  # inputs; without the last, of its output's range, it gives floats
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
# They hand on what they get, floats or bytes, and compute nothing.
_MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_LISTED = 6


@dataclass(frozen=True)
class Region:
    """Nodes that hand floats to each other, with the conversions at their edges."""

    computing: tuple["onnx.NodeProto", ...]  # all but conversions and what only moves values
    conversions: tuple["onnx.NodeProto", ...]
    ends: bool  # in what the file puts out, which is in floats


@dataclass(frozen=True)
class Kernels:
    """The nodes of a graph as onnxruntime runs it."""

    integer: dict[str, int]  # how many of each integer kernel, such as QLinearConv
    regions: tuple[Region, ...]  # what is in float
    # The softmax that gives the probabilities. It is left in float on purpose: of one number a
    # class it costs next to nothing, and 8 bits would lose the small ones.
    softmax: str | None

    @property
    def conversions(self) -> int:
        """QuantizeLinear and DequantizeLinear that no kernel took in."""
        return sum(len(region.conversions) for region in self.regions)

    @property
    def computing(self) -> tuple[str, ...]:
        """The names of nodes that compute in floats, but for the softmax at the end."""
        nodes = (node for region in self.regions for node in region.computing)
        return tuple(node.name for node in nodes if node.name != self.softmax)

    @property
    def text(self) -> str:
        """One line that counts them."""
        counts = ", ".join(f"{n} {name}" for name, n in self.integer.items())
        left = f"{self.conversions} conversions to or from float left"
        return f"integer kernels: {counts or 'none'}; {left}"


def kernels(payload: bytes) -> Kernels:
    """Let onnxruntime optimise a model as it does before running it, and look at what comes out.

    All but the last step, which turns float convolutions to a layout of this machine and names
    them anew.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
        target = Path(folder) / "optimised.onnx"
        onnx_session(
            onnxruntime,
            payload,
            graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
            optimized_model_filepath=str(target),
        )
        graph = onnx.load(target).graph
    counts = Counter(node.op_type for node in graph.node if _is_integer(node))
    return Kernels(dict(sorted(counts.items())), tuple(_regions(graph)), _last_softmax(graph))


def require_integer_kernels(
    payload: bytes, owners: Owners, *, name: str, kept: Collection[str] = ()
) -> Kernels:
    """Raise EdgecifarError, naming operations and layers, if a file computes in floats.

    That is every operation on activations but the softmax at the end and those of the Keras layers
    `kept`, and every conversion that neither of them needs. `owners` tell the model's layers.
    """
    found = kernels(payload)
    stray, conversions = [], 0
    for region in found.regions:
        other = [node for node in region.computing if node.name != found.softmax]
        other = [node for node in other if set(kept).isdisjoint(_layers(node, owners))]
        if other or not (region.computing or region.ends):
            stray += other or region.conversions
            conversions += len(region.conversions)
    if stray:
        listed = ", ".join(_said(node, owners) for node in stray[:_LISTED])
        more = f" and {len(stray) - _LISTED} more" if len(stray) > _LISTED else ""
        raise EdgecifarError(
            f"{name} would not run on integers throughout, in onnxruntime these stay in float: "
            f"{listed}{more}, with {conversions} conversions to or from float: replace those "
            "layers, name them with --keep-float, or export --onnx alone for float32"
        )
    return found


def _layers(node: "onnx.NodeProto", owners: Owners) -> tuple[str, ...]:
    return owners.named(node.name) or owners.named(";".join(node.output))


def _said(node: "onnx.NodeProto", owners: Owners) -> str:
    # A fused activation may stand in a node's name too, behind what is multiplied.
    return f"{node.op_type} ({next(iter(_layers(node, owners)), node.name)})"


def _is_integer(node: "onnx.NodeProto") -> bool:
    return node.op_type.startswith(_INTEGER)


def _gives_floats(node: "onnx.NodeProto") -> bool:
    """Tell whether an integer kernel puts out what it has summed as floats."""
    if node.op_type == "QGemm":
        return len(node.input) < _ALL_OF_QGEMM
    return "ToFloat" in node.op_type or node.op_type == "DynamicQuantizeMatMul"


def _float_tensors(graph: "onnx.GraphProto") -> set[str]:
    """Return the names of activations in float; the file itself has only a part of all dtypes."""
    import onnx

    constant = {tensor.name for tensor in graph.initializer}
    floats = {
        each.name
        for each in graph.input
        if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    for node in graph.node:  # in the order they run
        if all(name in constant for name in node.input):
            constant.update(node.output)
        elif node.op_type == "DequantizeLinear" or (_is_integer(node) and _gives_floats(node)):
            floats.update(node.output)
        elif not _is_integer(node) and node.op_type not in ("QuantizeLinear", "Shape"):
            floats.update(node.output if floats.intersection(node.input) else ())
    return floats


def _regions(graph: "onnx.GraphProto") -> Iterator[Region]:
    floats = _float_tensors(graph)
    gathered: list[tuple[set[str], list[onnx.NodeProto]]] = []
    for node in graph.node:
        tensors = floats.intersection((*node.input, *node.output))
        if _is_integer(node) or not tensors:
            continue
        members = [node]
        for known in [each for each in gathered if not each[0].isdisjoint(tensors)]:
            gathered.remove(known)
            tensors, members = tensors | known[0], known[1] + members
        gathered.append((tensors, members))
    for tensors, members in gathered:
        conversions = tuple(node for node in members if node.op_type in _CONVERSIONS)
        beside = (*_CONVERSIONS, *_MOVES)
        computing = tuple(node for node in members if node.op_type not in beside)
        yield Region(computing, conversions, graph.output[0].name in tensors)


def _last_softmax(graph: "onnx.GraphProto") -> str | None:
    """Return the name of the softmax that gives the file's output."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by.get(graph.output[0].name)
    while node is not None and node.op_type in _MOVES:
        node = made_by.get(node.input[0])
    return node.name if node is not None and node.op_type == "Softmax" else None
