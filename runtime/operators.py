"""Where the time of an inference goes, operator by operator.

onnxruntime profiles itself. The Python interface of TensorFlow Lite's interpreters has no
profiler (theirs is the C++ `benchmark_model --enable_op_profiling`), and timing the operators by
guesswork would mislead, so for .tflite files the answer is a sentence that says so.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.runtime.interpreters import choose_backend, onnx_session
from edgecifar.runtime.modelfile import ModelFile

NO_PROFILE = (
    "no operator profile: the Python interface of {backend} offers none "
    "(TensorFlow's benchmark_model --enable_op_profiling=true does)"
)
_RUNS = 50
_SKIPPED = 5  # the first runs, which allocate


@dataclass(frozen=True)
class OperatorTime:
    """Median microseconds of one node of the graph, as the interpreter runs it."""

    name: str
    operator: str
    us: float


def profile(model: ModelFile, tensor: np.ndarray, *, threads: int = 1) -> list[OperatorTime]:
    """Profile an .onnx model on one input, slowest operator first."""
    onnxruntime = choose_backend("onnx", "onnxruntime").load()
    with tempfile.TemporaryDirectory(prefix="edgecifar-") as folder:
        session = onnx_session(
            onnxruntime,
            model.payload,
            threads=threads,
            enable_profiling=True,
            profile_file_prefix=str(Path(folder) / "profile"),
        )
        name = session.get_inputs()[0].name
        _repeat(lambda: session.run(None, {name: tensor}))
        events = json.loads(Path(session.end_profiling()).read_text())
    return _summary(events)


def _repeat(call: Callable[[], object]) -> None:
    for _ in range(_RUNS):
        call()


def _summary(events: list[dict[str, Any]]) -> list[OperatorTime]:
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            times.setdefault(key, []).append(float(event["dur"]))
    found = [OperatorTime(*key, float(np.median(us[_SKIPPED:] or us))) for key, us in times.items()]
    return sorted(found, key=lambda item: -item.us)
