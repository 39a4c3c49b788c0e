"""The weights that an exported file really holds."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.errors import EdgecifarError


@dataclass(frozen=True)
class Weights:
    """A constant kernel of a file."""

    name: str
    zeros: int
    size: int
    is_int8: bool


def weights(payload: bytes) -> list[Weights]:
    """List the kernels (constants of two or four dimensions) of a file's bytes, floats or int8.

    An int8 kernel's zero point is 0, so that a stored 0 is a zero.
    """
    return _tflite_weights(payload) if payload[4:8] == b"TFL3" else _onnx_weights(payload)


def _onnx_weights(payload: bytes) -> list[Weights]:
    import onnx

    kinds = (np.int8, np.float32)
    arrays = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_model_from_string(payload).graph.initializer
        if len(tensor.dims) in (2, 4)
    }
    return [_weights(name, values) for name, values in arrays.items() if values.dtype in kinds]


def _tflite_weights(payload: bytes) -> list[Weights]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(payload, 0)
    kinds = schema.TensorType
    dtypes = {kinds.INT8: np.int8, kinds.FLOAT32: np.float32, kinds.FLOAT16: np.float16}
    found = []
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is None or len(tensor.shape) not in (2, 4) or tensor.type not in dtypes:
                continue
            values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtypes[tensor.type])
            found.append(_weights(tensor.name.decode(), values))
    return found


def _weights(name: str, values: np.ndarray) -> Weights:
    zeros = int(values.size - np.count_nonzero(values))
    return Weights(name, zeros, values.size, values.dtype == np.int8)


def zero_share(payload: bytes) -> float:
    """Return the share of all kernels' weights that are zero, 0 to 1."""
    found = weights(payload)
    return sum(kernel.zeros for kernel in found) / max(1, sum(kernel.size for kernel in found))


def require_int8_weights(payload: bytes, *, name: str) -> str:
    """Return how much of a file's kernels is in int8; EdgecifarError if nothing is."""
    found = weights(payload)
    inside = [kernel.size for kernel in found if kernel.is_int8]
    if not inside:
        raise EdgecifarError(
            f"{name} would have none of its {len(found)} kernels in int8, the converter leaves "
            "small ones in float: export --int8, or --float32"
        )
    share = sum(inside) / sum(kernel.size for kernel in found)
    return f"{len(inside)} of {len(found)} kernels in int8, {share:.0%} of their weights"


def require_zeros(payload: bytes, masks: Iterable[np.ndarray], *, name: str) -> None:
    """Raise EdgecifarError if a kernel of a file holds fewer zeros than its mask, 0 where zero.

    A file has other names than its model. Kernels of one size are therefore compared in the order
    of their zeros, so that none makes up for another that lost its own.
    """
    held, wanted = defaultdict(list), defaultdict(list)
    for kernel in weights(payload):
        held[kernel.size].append(kernel.zeros)
    for mask in masks:
        wanted[mask.size].append(mask.size - np.count_nonzero(mask))
    for size, counts in wanted.items():
        there = sorted(held[size], reverse=True) + [0] * len(counts)
        for zeros, asked in zip(there, sorted(counts, reverse=True), strict=False):
            if zeros < asked:
                raise EdgecifarError(
                    f"{name} holds {zeros:,} zeros in a kernel of {size:,} weights, its model has "
                    f"{asked:,}: pruning got lost on the way, no file was written"
                )
