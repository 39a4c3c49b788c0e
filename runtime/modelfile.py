"""Model files that describe themselves: read them, verify them, describe one.

A file of ours is a bare model (the payload) followed by ``edgecifar.json`` and
``labels.txt``: in a zip archive after a .tflite, in metadata_props after an .onnx. The JSON
carries the payload's SHA-256 and its own, which are checked before an interpreter sees the
bytes.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from edgecifar.runtime import onnx_container, tflite_container
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import replace_file

SCHEMA = 1  # of edgecifar.json; a reader refuses a newer one
METADATA_NAME = "edgecifar.json"
LABELS_NAME = "labels.txt"
_LEAST_RUNTIME = "0.1.0"  # the first release that reads SCHEMA
_SECTIONS = ("input", "dataset", "recipe", "accuracy", "parity", "versions", "golden", "signature")
_FIGURES = ("top1", "low", "high", "n")  # of an accuracy
# What a checksum of the description can't cover: itself, and the signature made over it.
_UNHASHED = frozenset({"metadata_sha256", "signature"})
_OURS = frozenset({METADATA_NAME, LABELS_NAME})
# Either of them betrays a description that one flipped byte has hidden from the parser.
_TRACES = (METADATA_NAME.encode(), b'"payload_sha256"')
_HEAD_BYTES = 256  # enough to tell what it is
_LARGEST = 2 << 30  # both formats count bytes in signed 32-bit numbers
_ZIP = b"PK\x03\x04"
_KERAS = "it is a Keras file: `edgecifar export FILE --int8` on a workstation first"
_NOT_MODELS = {
    b"<": "it is an HTML or XML page, as failed downloads leave: download it again",
    b"version https://git-lfs": "it is a Git LFS pointer: run `git lfs pull`",
    _ZIP: "it is a zip archive: unpack it",
    b"\x89HDF": _KERAS,
}


@dataclass(frozen=True)
class ModelFile:
    """A model file, read and verified.

    ``payload`` holds the bytes for an interpreter, ``metadata`` is edgecifar.json or None
    for a foreign file, and ``labels`` has one name a class, or None.
    """

    path: Path
    kind: Literal["tflite", "onnx"]
    payload: bytes
    metadata: dict[str, Any] | None
    labels: tuple[str, ...] | None
    file_bytes: int

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the payload in hexadecimal."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def name(self) -> str:
        """The name that the file gives itself, else its file name without the suffix."""
        return str((self.metadata or {}).get("name") or self.path.stem)

    @property
    def has_checksum(self) -> bool:
        """Whether the file carries its SHA-256: damage would show, but anybody can write one."""
        return self.metadata is not None


def read(path: Path | str) -> ModelFile:
    """Read a .tflite or .onnx file and check its hash, if it has one.

    Raises:
        EdgecifarError: there is no such file, or it is empty, truncated, altered, of a newer
            schema or no model at all.

    """
    path = Path(path)
    kind, data = _read_bytes(path)
    try:
        payload, attachments = _split(kind, data)
        (tflite_container if kind == "tflite" else onnx_container).check(payload)
        metadata = _metadata(path, payload, attachments)
        labels = _labels(attachments, metadata)
    except ValueError as error:
        raise EdgecifarError(f"{path}: {error}: copy or export it again") from error
    return ModelFile(path, kind, payload, metadata, labels, len(data))


def kind_of(path: Path | str) -> Literal["tflite", "onnx"]:
    """Return a file's format, for which only its beginning is read.

    Raises:
        EdgecifarError: it is neither.
        OSError: it can't be read.

    """
    path = Path(path)
    with path.open("rb") as stream:
        return _kind(path, stream.read(_HEAD_BYTES))


def append(path: Path | str, metadata: dict[str, Any], labels: tuple[str, ...] | None) -> None:
    """Describe the model in ``path``: add metadata and labels, or replace those it has.

    ``schema``, ``minimum_runtime`` and the checksums are filled in, ``created`` (ISO 8601, UTC)
    and ``labels`` too unless given. The file is replaced in one step.

    Raises:
        EdgecifarError: ``path`` is no model, or a label has a line break in it.

    """
    path = Path(path)
    for label in labels or ():
        if _lines(label.encode()) != (label,):
            raise EdgecifarError(
                f"label {label!r} is empty, or has line breaks or outer spaces: rename the class"
            )
    kind, data = _read_bytes(path)
    container = tflite_container if kind == "tflite" else onnx_container
    try:
        payload, _ = _split(kind, data)
        container.check(payload)
    except ValueError as error:
        raise EdgecifarError(f"{path}: {error}: export it again") from error
    full = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **({"labels": list(labels)} if labels else {}),
        **metadata,
        "schema": SCHEMA,
        "minimum_runtime": _LEAST_RUNTIME,
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "payload_bytes": len(payload),
    }
    _write(path, kind, payload, full, labels)


def attach_signature(model: ModelFile, signature: dict[str, str]) -> None:
    """Write the signature into a file that was read, all else in it as it is."""
    _write(
        model.path, model.kind, model.payload, {**model.metadata, "signature": signature},
        model.labels,
    )  # fmt: skip


def metadata_sha256(metadata: dict[str, Any]) -> str:
    """SHA-256 of the description as compact JSON with sorted keys, without what rests on it."""
    content = {key: value for key, value in metadata.items() if key not in _UNHASHED}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_labels(path: Path | str) -> tuple[str, ...]:
    """Read a text file with one label a line."""
    try:
        return _lines(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8 text"
        raise EdgecifarError(f"{path}: {reason}: give a text file with one label a line") from error


def _write(
    path: Path,
    kind: str,
    payload: bytes,
    metadata: dict[str, Any],
    labels: tuple[str, ...] | None,
) -> None:
    # Through JSON first: a tuple becomes the list that a reader will hash.
    plain = json.loads(json.dumps(metadata, allow_nan=False))
    plain["metadata_sha256"] = metadata_sha256(plain)
    text = json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False)
    attachments = {METADATA_NAME: text.encode()}
    if labels:
        attachments[LABELS_NAME] = "".join(f"{label}\n" for label in labels).encode()
    container = tflite_container if kind == "tflite" else onnx_container
    replace_file(path, container.join(payload, attachments))


def _read_bytes(path: Path) -> tuple[Literal["tflite", "onnx"], bytes]:
    """Return the format and all bytes of a file, of which little is read if it is no model."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            kind = _kind(path, head)
            if os.fstat(stream.fileno()).st_size > _LARGEST:
                raise EdgecifarError(f"{path}: it is larger than 2 GiB, as no model is: check it")
            return kind, head + stream.read()
    except FileNotFoundError:
        raise EdgecifarError(f"{path}: no such model file: check the path") from None
    except OSError as error:
        raise EdgecifarError(f"{path}: {error.strerror}: give a model file") from error


def _kind(path: Path, head: bytes) -> Literal["tflite", "onnx"]:
    """Tell the format by what is inside; the suffix only decides for ONNX, which has no mark."""
    if not head:
        raise EdgecifarError(f"{path}: it is empty: copy or export it again")
    if head[4:8] == tflite_container.IDENTIFIER:
        return "tflite"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, reason in _NOT_MODELS.items():
        if text.startswith(start):
            keras = start == _ZIP and path.suffix.lower() == ".keras"
            raise EdgecifarError(f"{path}: {_KERAS if keras else reason}")
    if path.suffix.lower() == ".onnx":
        return "onnx"
    raise EdgecifarError(
        f"{path}: neither a TensorFlow Lite nor an ONNX model, or damaged: copy or export it again"
    )


def _split(kind: str, data: bytes) -> tuple[bytes, dict[str, bytes]]:
    if kind == "onnx":
        payload, attachments = onnx_container.split(data, _OURS)
    else:
        payload, attachments = tflite_container.split(data, _is_wanted)
    if METADATA_NAME not in attachments and any(mark in data for mark in _TRACES):
        raise ValueError("what it says of itself is truncated or altered")
    return payload, attachments


def _is_wanted(name: str) -> bool:
    """Whether an attachment is read; a foreign file's labels may have another name than ours."""
    return name in _OURS or ("label" in name and name.endswith(".txt"))


def _metadata(path: Path, payload: bytes, attachments: dict[str, bytes]) -> dict[str, Any] | None:
    if METADATA_NAME not in attachments:
        return None
    try:
        metadata = json.loads(attachments[METADATA_NAME])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{METADATA_NAME} in it can't be read") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("schema"), int):
        raise ValueError(f"{METADATA_NAME} in it isn't ours")
    if metadata["schema"] > SCHEMA:
        least = str(metadata.get("minimum_runtime", "of a newer version"))[:40]
        raise EdgecifarError(
            f"{path}: it needs edgecifar-runtime {least}: `pip install -U edgecifar-runtime`"
        )
    if hashlib.sha256(payload).hexdigest() != metadata.get("payload_sha256"):
        raise ValueError("its SHA-256 isn't the recorded one, so the file is damaged")
    if metadata_sha256(metadata) != metadata.get("metadata_sha256"):
        raise ValueError(f"{METADATA_NAME} in it isn't what was written, so the file is damaged")
    _check_types(metadata)
    return metadata


def _check_types(metadata: dict[str, Any]) -> None:
    """Spare every reader the question whether a section is one."""
    for key in _SECTIONS:
        if not isinstance(metadata.get(key, {}), dict):
            raise ValueError(f"{key} in its {METADATA_NAME} isn't a section")
    for entry in metadata.get("accuracy", {}).values():
        numbers = [entry.get(key, 0) for key in _FIGURES] if isinstance(entry, dict) else [None]
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError(f"accuracy in its {METADATA_NAME} isn't made of figures")
    for key in ("labels", "float_layers"):
        names = metadata.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{key} in its {METADATA_NAME} aren't a list of names")


def _labels(
    attachments: dict[str, bytes], metadata: dict[str, Any] | None
) -> tuple[str, ...] | None:
    """Labels of the attachment, labels.txt before one of another name, or of the description."""
    names = [LABELS_NAME, *sorted(name for name in attachments if name not in _OURS)]
    found = next((_lines(attachments[name]) for name in names if name in attachments), None)
    listed, signed = ((metadata or {}).get(key) for key in ("labels", "signature"))
    if found and signed and not listed:  # a signature covers the description alone
        raise ValueError("its signature doesn't cover the labels in it, which anybody can write")
    if found and listed and tuple(listed) != found:
        raise ValueError(f"{LABELS_NAME} and {METADATA_NAME} in it name different classes")
    return found or (tuple(listed) if listed else None)


def _lines(text: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in text.decode("utf-8-sig").split("\n"))
    return tuple(line for line in lines if line)
