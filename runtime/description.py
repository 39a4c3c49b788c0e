"""Describe a model file: its tensors, and what it says of itself."""

from pathlib import Path
from typing import Any

from edgecifar.runtime import modelfile
from edgecifar.runtime.interpreters import NoInterpreterError, TensorSpec, open_model
from edgecifar.runtime.shipped import locate
from edgecifar.runtime.tables import human_bytes, printable

# What accuracy is of: a model fine-tuned for int8 computes, in floats, what its file is to.
_WHOSE = {"float": "of the float model", "simulated": "of int8 simulated"}


def describe(path: Path | None = None, *, backend: str | None = None) -> dict[str, Any]:
    """Return the file's tensors, sizes, hash, labels and metadata as JSON holds them.

    `path` may be the name of a model that ships with the runtime. Where no interpreter imports,
    `input`, `output` and `backend` are None and `unloaded` says why.

    Raises:
        EdgecifarError: the file can't be read, verified or loaded, or the named interpreter doesn't
            import.

    """
    model = modelfile.read(locate(path))
    loaded: dict[str, Any] = {"backend": None, "input": None, "output": None, "unloaded": None}
    try:
        interpreter = open_model(model, backend=backend)
        loaded["backend"] = interpreter.backend
        loaded |= {"input": _tensor(interpreter.input), "output": _tensor(interpreter.output)}
    except NoInterpreterError as error:  # the machine's fault: the file can speak for itself
        if backend is not None:
            raise
        loaded["unloaded"] = str(error)
    return {
        "file": str(model.path),
        "name": model.name,
        "kind": model.kind,
        "file_bytes": model.file_bytes,
        "payload_bytes": len(model.payload),
        "sha256": model.sha256,
        "verified": model.has_checksum,
        **loaded,
        "labels": list(model.labels) if model.labels else None,
        "metadata": model.metadata,
    }


def lines(description: dict[str, Any]) -> list[str]:
    """Lay out a description for a terminal."""
    metadata = description["metadata"] or {}
    fields = {
        "file": description["file"],
        "name": description["name"],
        "architecture": metadata.get("architecture"),
        "size": f"{human_bytes(description['file_bytes'])}, "
        f"{description['payload_bytes']:,} bytes without its description",
        "SHA-256": f"{description['sha256']} ({_verdict(description)})",
        "tensors": f"unknown ({description['unloaded']})" if description["unloaded"] else None,
        "input": _tensor_text(description["input"]),
        "output": _tensor_text(description["output"]),
        "layers in float": ", ".join(metadata.get("float_layers") or []),
        "labels": ", ".join(description["labels"] or []) or "none in the file",
        "dataset": (metadata.get("dataset") or {}).get("name"),
        **{
            f"top-1 {_WHOSE.get(which, 'of this file')}": _top1(value)
            for which, value in (metadata.get("accuracy") or {}).items()
        },
        **{f"parity {k}": _plain(v) for k, v in (metadata.get("parity") or {}).items()},
        **{f"recipe {k}": _plain(v) for k, v in (metadata.get("recipe") or {}).items()},
        "created": metadata.get("created"),
        "loads in": description["backend"],
    }
    shown = {printable(name): printable(str(text)) for name, text in fields.items() if text}
    width = max(map(len, shown))
    return [f"{name.ljust(width)}  {text}" for name, text in shown.items()]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "shape": list(spec.shape),
        "dtype": str(spec.dtype),
        "scale": spec.scale,
        "zero_point": spec.zero_point,
    }


def _tensor_text(tensor: dict[str, Any] | None) -> str | None:
    if tensor is None:
        return None
    shape = "x".join(str(size) for size in tensor["shape"])
    if not tensor["scale"]:
        return f"{tensor['dtype']} {shape}"
    return (
        f"{tensor['dtype']} {shape}, scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
    )


def _verdict(description: dict[str, Any]) -> str:
    return "verified" if description["verified"] else "the file doesn't say which it should be"


def _top1(accuracy: Any) -> str | None:
    if not isinstance(accuracy, dict) or "top1" not in accuracy:
        return None
    text = f"{accuracy['top1']:.2f} %"
    if {"low", "high", "n"} <= accuracy.keys():
        text += f" ({accuracy['low']:.2f} to {accuracy['high']:.2f}, n = {accuracy['n']})"
    return text


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
