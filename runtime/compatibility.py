"""Why an interpreter is too old for a model file, and the least version that it takes."""

import re
from collections.abc import Callable

from edgecifar.runtime import onnx_container, tflite_container
from edgecifar.runtime.modelfile import ModelFile

# First release of onnxruntime with each opset of ONNX, up to 21 by
# https://onnxruntime.ai/docs/reference/compatibility.html, above by loading a model of each opset
# in the releases from 1.19 to 1.32.
_ONNXRUNTIME_OF_OPSET = {
    15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21",
    23: "1.23", 24: "1.24", 25: "1.24", 26: "1.25", 27: "1.32", 28: "1.32",
}  # fmt: skip

# What the interpreters say, and what is meant by it.
_COMPLAINTS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'",
        lambda found: f"it uses version {found[2]} of the operator {found[1]}",
    ),
    (
        r"builtin_code out of range: (\d+)",
        lambda found: f"it uses an operator, number {found[1]},",
    ),
    (r"No Op registered for (\S+)", lambda found: f"it uses the operator {found[1]}"),
    (r"[Uu]nsupported model IR version: (\d+)", lambda found: f"it has IR version {found[1]}"),
    (
        r"only \*guarantees\* support for models stamped with official released onnx opset "
        r"versions\. Opset (\d+)",
        lambda found: f"it has opset {found[1]}",
    ),
)  # fmt: skip


# No release of the interpreter has these: somebody's own.
_CUSTOM = re.compile(
    r"unresolved custom op: (?P<tflite>\S+?)\.?\s|"
    r"error: (?P<onnx>\S+?)\(-?\d+\) is not a registered function"
)


def explain(complaint: str, model: ModelFile, backend: str) -> str | None:
    """Say what ``backend`` ("litert 2.3.0") doesn't know and what does; None if it's not that."""
    library = backend.partition(" ")[0]
    custom = _CUSTOM.search(complaint)
    if custom:
        name = custom["tflite"] or custom["onnx"]
        return (
            f"it uses the custom operator {name}, which no {library} brings: "
            "export it with standard operators"
        )
    for pattern, describe in _COMPLAINTS:
        found = re.search(pattern, complaint)
        if found:
            return f"{describe(found)} that {backend} doesn't know: {_mend(model, backend)}"
    return None


def _mend(model: ModelFile, backend: str) -> str:
    least = least_version(model)
    if least:
        return f"it runs on {least} and newer"
    library = backend.partition(" ")[0]
    package = "ai-edge-litert" if library == "litert" else library
    return f"`pip install -U {package}`, or export it without that"


def checked_with(model: ModelFile) -> str | None:
    """Name the interpreter that computed the file's golden outputs, as the file does."""
    recorded = ((model.metadata or {}).get("golden") or {}).get("backend")
    return recorded[:40] if isinstance(recorded, str) else None


def least_version(model: ModelFile) -> str | None:
    """Name the oldest interpreter that is known to run the file, as in "litert 2.3.0".

    For a file of ours the one that it was checked with. A foreign .tflite may say which TensorFlow
    its operators came with, and an .onnx has an opset.
    """
    recorded = checked_with(model)
    if recorded:
        return recorded
    try:
        if model.kind == "tflite":
            version = tflite_container.least_tensorflow(model.payload)
            return f"TensorFlow Lite {version}" if version else None
        version = _ONNXRUNTIME_OF_OPSET.get(onnx_container.opset(model.payload) or 0)
    except ValueError:
        return None
    return f"onnxruntime {version}" if version else None
