"""One face for every interpreter: LiteRT, tflite-runtime, TensorFlow's and onnxruntime."""

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgecifar.runtime.backends import BACKENDS, MOST_THREADS, Backend, ComplaintError
from edgecifar.runtime.errors import EdgecifarError, NoInterpreterError
from edgecifar.runtime.modelfile import ModelFile
from edgecifar.runtime.quiet import quiet_stderr
from edgecifar.runtime.shipped import ships


@dataclass(frozen=True)
class TensorSpec:
    """Shape, dtype and quantization of a tensor: ``real = scale * (stored - zero_point)``.

    ``scale`` is 0.0 for a tensor that isn't quantized. A free batch counts as 1.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float = 0.0
    zero_point: int = 0


class Interpreter(Protocol):
    """A loaded model with one input and one output. It isn't thread-safe."""

    input: TensorSpec
    output: TensorSpec

    @property
    def backend(self) -> str:
        """Name and version of the library, as in "litert 2.3.0"."""

    def run(self, array: np.ndarray) -> np.ndarray:
        """Compute the output for one input of exactly ``input.shape`` and ``input.dtype``."""


def open_model(model: ModelFile, *, threads: int = 1, backend: str | None = None) -> Interpreter:
    """Load a model into the first interpreter that imports, or into the named one.

    A model that didn't ship with the runtime is tried in a child process first, once a machine: a
    damaged FlatBuffer can kill the process that opens it, and anybody can write its checksum.

    Raises:
        NoInterpreterError: no interpreter imports, or this one was built for another NumPy.
        EdgecifarError: this one can't load or run the model.

    """
    if not 1 <= threads <= MOST_THREADS:
        raise EdgecifarError(f"{threads} threads: give 1 to {MOST_THREADS}")
    chosen = choose_backend(model.kind, backend)
    if not (model.has_checksum and ships(model.path)):
        from edgecifar.runtime.probe import check_once

        check_once(model, chosen.name)
    return open_unchecked(model, chosen, threads=threads)


def choose_backend(kind: str, name: str | None = None) -> Backend:
    """Return the named backend, or the first that imports among those for ``kind`` of file.

    Raises:
        NoInterpreterError: none does; it says why and which pip command mends it.
        EdgecifarError: no such interpreter reads this kind.

    """
    candidates = [b for b in BACKENDS.values() if b.kind == kind]
    if name is not None:
        known = ", ".join(b.name for b in candidates)
        candidates = [b for b in candidates if b.name == name.replace("_", "-")]
        if not candidates:
            raise EdgecifarError(f"no interpreter {name!r} for .{kind} files: take one of {known}")
    complaints = {}
    for candidate in candidates:
        try:
            candidate.load_or_complain()
        except ComplaintError as error:
            complaints[candidate] = str(error)
        else:
            return candidate
    raise NoInterpreterError(f"no interpreter for .{kind} files imports {_explained(complaints)}")


def _explained(complaints: dict[Backend, str]) -> str:
    """Say why none of them imports, and what mends the one that is most easily mended."""
    from edgecifar.runtime.ailments import describe_machine, explain, has_wheel

    machine = describe_machine()
    told = {backend: explain(backend, text, machine) for backend, text in complaints.items()}
    installed = [backend for backend in told if backend.installed]
    fitting = [backend for backend in told if has_wheel(backend.distributions[0], machine)]
    mend = next((told[backend][1] for backend in (*installed, *fitting)), None)
    reasons = "; ".join(f"{backend.name}: {reason}" for backend, (reason, _) in told.items())
    return f"({reasons}): {mend or '`edgecifar doctor` tells what this machine can run'}"


def open_unchecked(
    model: ModelFile, backend: Backend, *, threads: int, batch: int = 1
) -> Interpreter:
    """Load a model into this process without the trial in a child; see `open_model`.

    With ``batch`` images a call, where the file's own shape allows it.
    """
    adapter = OnnxInterpreter if backend.kind == "onnx" else TfliteInterpreter
    try:
        # NumPy says at length what it raises, too, and TensorFlow warns that LiteRT replaces it.
        with quiet_stderr(), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return adapter(model.payload, backend, threads, batch)
    except EdgecifarError as error:
        raise EdgecifarError(f"{model.path}: {error}") from error
    except Exception as error:  # each library has its own classes; onnxruntime's aren't importable
        _refuse_library(error, model, backend)
        raise EdgecifarError(f"{model.path}: {_explain(error, model, backend)}") from error


def _refuse_library(error: Exception, model: ModelFile, backend: Backend) -> None:
    """Raise NoInterpreterError if it is the library that fails: some import NumPy only now."""
    from edgecifar.runtime.ailments import describe_machine, recognise

    said = f"{error} {error.__cause__}"
    if known := recognise(backend.distributions[0], said, describe_machine()):
        reason, mend = known
        raise NoInterpreterError(
            f"{model.path}: {backend.name} doesn't work here ({reason}): {mend}"
        ) from error


def _explain(error: Exception, model: ModelFile, backend: Backend) -> str:
    from edgecifar.runtime.compatibility import explain

    lines = str(error).strip().splitlines() or [type(error).__name__]
    too_old = explain(" ".join(lines) + " ", model, f"{backend.name} {backend.version}")
    return too_old or (
        f"{backend.name} can't load it ({lines[0]}): export it again, or update the interpreter"
    )


class TfliteInterpreter:
    """A .tflite model in LiteRT, tflite-runtime or TensorFlow, which share one interface."""

    def __init__(self, payload: bytes, backend: Backend, threads: int, batch: int = 1):
        self._backend = backend
        self._interpreter = backend.load()(model_content=payload, num_threads=threads)
        inputs = self._interpreter.get_input_details()
        if batch > 1:
            shape = [batch, *inputs[0]["shape"].tolist()[1:]]
            self._interpreter.resize_tensor_input(inputs[0]["index"], shape)
        self._interpreter.allocate_tensors()
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        _require_one(len(inputs), len(outputs))
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self.input, self.output = _tflite_spec(inputs[0]), _tflite_spec(outputs[0])
        _require_batch(batch, self.output if batch > 1 else None)

    @property
    def backend(self) -> str:
        """Name and version of the library."""
        return f"{self._backend.name} {self._backend.version}"

    def run(self, array: np.ndarray) -> np.ndarray:
        """Compute the output (a copy) for one input."""
        self._interpreter.set_tensor(self._input, array)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)


def onnx_session(onnxruntime: Any, payload: bytes, *, threads: int = 1, **settings: Any) -> Any:
    """Open an .onnx model on the CPU, with further ``settings`` of SessionOptions.

    x86 without VNNI adds products of uint8 and int8 in 16 bits, which overflow: int8 answers were
    wrong there without a word. The exact kernels that are asked for there take half as long again;
    with VNNI, which is exact by itself, they would take 2.5 times as long.
    """
    from edgecifar.runtime.environment import VNNI, cpu_features

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    if VNNI.isdisjoint(cpu_features()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])


class OnnxInterpreter:
    """An .onnx model in onnxruntime, on the CPU."""

    def __init__(self, payload: bytes, backend: Backend, threads: int, batch: int = 1):
        self._backend = backend
        self._session = onnx_session(backend.load(), payload, threads=threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        _require_one(len(inputs), len(outputs))
        self._input, self._outputs = inputs[0].name, [outputs[0].name]
        self.input, self.output = _onnx_spec(inputs[0], batch), _onnx_spec(outputs[0], batch)
        _require_batch(batch, self.input if batch > 1 else None)

    @property
    def backend(self) -> str:
        """Name and version of the library."""
        return f"{self._backend.name} {self._backend.version}"

    def run(self, array: np.ndarray) -> np.ndarray:
        """Compute the output for one input."""
        return self._session.run(self._outputs, {self._input: array})[0]


def _require_one(inputs: int, outputs: int) -> None:
    if (inputs, outputs) != (1, 1):
        raise EdgecifarError(
            f"it has {inputs} inputs and {outputs} outputs: give an image classifier, "
            "which has one of each"
        )


def _require_batch(batch: int, spec: TensorSpec | None) -> None:
    if spec is not None and spec.shape[:1] != (batch,):
        raise EdgecifarError(
            f"its batch is fixed, so {batch} images don't fit: measure it without --batch, or "
            "export it with a free first dimension"
        )


def _require_fixed(shape: Sequence[int | None]) -> None:
    if None in shape[1:]:
        told = ", ".join("free" if size is None else str(size) for size in shape)
        raise EdgecifarError(f"it takes or gives [{told}]: export it with fixed sizes")


def _tflite_spec(details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    shape = tuple(int(size) for size in details["shape"])
    _require_fixed([size if size > 0 else None for size in details.get("shape_signature", shape)])
    return TensorSpec(shape, np.dtype(details["dtype"]), float(scale), int(zero_point))


def _onnx_spec(node: Any, batch: int) -> TensorSpec:
    fixed = [size if isinstance(size, int) and size > 0 else None for size in node.shape]
    _require_fixed(fixed)
    shape = tuple(batch if size is None else size for size in fixed)
    name = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(shape, np.dtype({"float": "float32", "double": "float64"}.get(name, name)))
