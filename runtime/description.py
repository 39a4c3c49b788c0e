"""Describe a model file: its tensors, and what it says of itself."""

import math
from pathlib import Path
from typing import Any

from edgecifar.runtime import modelfile
from edgecifar.runtime.interpreters import NoInterpreterError, TensorSpec, open_model
from edgecifar.runtime.shipped import locate
from edgecifar.runtime.splits import SPLITS
from edgecifar.runtime.statistics import Estimate, describe_change
from edgecifar.runtime.tables import human_bytes, printable

DIVISORS = (0.25, 4.0)  # of logits: where all answers are right the best would be 0
# What accuracy is of. The original is what a pruned float model was made of; a model fine-tuned for
# int8 computes, in floats, what its file is to.
_WHOSE = {
    "original": "of the original", "float": "of the float model",
    "simulated": "of int8 simulated", "this": "of this file",
}  # fmt: skip


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
            f"top-1 {_WHOSE.get(which, f'of {which}')}": _top1(value)
            for which, value in (metadata.get("accuracy") or {}).items()
        },
        **_parity(metadata.get("parity") or {}),
        "confidence": _confidence(_number(metadata, "divisor")),
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
    if not isinstance(accuracy, dict) or (top1 := _number(accuracy, "top1")) is None:
        return None
    low, high, count = (_number(accuracy, key) for key in ("low", "high", "n"))
    text = f"{top1:.2f} %"
    if None not in (low, high, count):
        split = accuracy.get("split")
        of = f" {split} images" if split in SPLITS else ""
        text += f" ({low:.2f} to {high:.2f}, n = {count:,.0f}{of})"
    return text


def _parity(parity: dict[str, Any]) -> dict[str, str]:
    """Put into words how the file's answers differ from those of the Keras model it was made of."""
    agreement, mean, largest, count = (
        _number(parity, key) for key in ("agreement", "mean_difference", "largest_difference", "n")
    )
    value, low, high = (_number(parity.get("change"), key) for key in ("value", "low", "high"))
    said = [f"{agreement:.2f} % of answers the same"] if agreement is not None else []
    if None not in (value, low, high):
        of = f", {count:,.0f} validation images" if count is not None else ""
        said.append(describe_change("accuracy", Estimate(value, low, high), of))
    classes = parity.get("per_class")
    names = classes if isinstance(classes, dict) else ()
    points = [(_number(classes, name) or 0.0, name) for name in names]
    if points and min(points)[0] < 0:
        said.append(f"worst class {min(points)[1]} ({min(points)[0]:+.1f} points)")
    told = {"against Keras": ", ".join(said)}
    if None not in (mean, largest):
        differ = f"{100 * mean:.2f} points on average, {100 * largest:.1f} at most"
        told["probabilities"] = f"differ from Keras's by {differ}"
    return told


def _confidence(divisor: float | None) -> str | None:
    return None if divisor in (None, 1) else divided(divisor)


def divided(divisor: float) -> str:
    """Say what the logits were divided by, and what confidence is worth then."""
    lowest, highest = DIVISORS
    if 1.01 * lowest < divisor < 0.99 * highest:
        return f"logits divided by {divisor:g}: confidence fits accuracy on validation images"
    return f"logits divided by {divisor:g}, the most that is tried: confidence doesn't fit accuracy"


def _number(section: Any, key: str) -> float | None:
    """Return a finite number of a section that may be anything, or None."""
    value = section.get(key) if isinstance(section, dict) else None
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
