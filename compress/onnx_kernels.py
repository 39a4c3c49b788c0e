"""What an int8 ONNX file really computes in: the kernels that onnxruntime makes of its graph."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecifar.compress.layers import layers_in
from edgecifar.runtime.errors import EdgecifarError

# As onnxruntime names them, before and after it fuses an activation or changes the layout.
_MULTIPLYING = {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm",
                "MatMul", "FusedMatMul"}  # fmt: skip
_INTEGER = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Kernels:
    """The nodes of a graph as onnxruntime runs it."""

    integer: dict[str, int]  # how many of each integer kernel, such as QLinearConv
    conversions: int  # QuantizeLinear and DequantizeLinear that no kernel took in
    float_layers: tuple[str, ...]  # nodes of convolutions and dense layers that stay in float

    @property
    def text(self) -> str:
        """One line that counts them."""
        counts = ", ".join(f"{n} {name}" for name, n in self.integer.items())
        left = f"{self.conversions} conversions to or from float left"
        return f"integer kernels: {counts or 'none'}; {left}"


def kernels(payload: bytes) -> Kernels:
    """Let onnxruntime optimise a model as it does before running it, and count what comes out.

    All but the last step, which turns float convolutions to a layout of this machine and names
    them anew.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
        target = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(target).graph.node
    counts = Counter(node.op_type for node in nodes)
    return Kernels(
        {name: n for name, n in sorted(counts.items()) if name.startswith(_INTEGER)},
        sum(counts[name] for name in _CONVERSIONS),
        tuple(node.name for node in nodes if node.op_type in _MULTIPLYING),
    )


def require_integer_kernels(
    payload: bytes, layers: Sequence[str], *, name: str, kept: Sequence[str] = ()
) -> Kernels:
    """Raise EdgecifarError, naming the layers, if convolutions or dense layers compute in floats.

    `layers` are those of the Keras model in its order; those `kept` in float are meant to.
    """
    found = kernels(payload)
    # A fused activation may stand in a node's name too, behind what is multiplied.
    floats = [next(iter(layers_in(node, layers)), node) for node in found.float_layers]
    floats = [layer for layer in floats if layer not in kept]
    if floats:
        raise EdgecifarError(
            f"{name} would run at float speed, onnxruntime has no integer kernel for "
            f"{', '.join(floats)}: replace those layers, or export --onnx alone for float32"
        )
    return found
