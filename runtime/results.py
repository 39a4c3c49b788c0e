"""Results of measurements, sealed with a checksum of their own; of a bench, with every answer."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import median_of, paired_ratio

SCHEMA = 1
_CHECKSUM = "checksum"


def seal(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result with the checksum of all else in it."""
    content = {key: value for key, value in result.items() if key != _CHECKSUM}
    return content | {_CHECKSUM: checksum(content)}


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the result as JSON with sorted keys, without its own checksum."""
    rest = {key: value for key, value in content.items() if key != _CHECKSUM}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def as_bytes(result: Mapping[str, Any]) -> bytes:
    """Write the result as a file holds it."""
    return (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()


def read(path: Path, *, kind: str = "bench") -> dict[str, Any]:
    """Read a result of a ``kind`` and check that nobody has changed it.

    Raises:
        EdgecifarError: there is none, or it is no such result, of another schema or edited by
            hand.

    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise EdgecifarError(f"{path}: no such file: `edgecifar bench --json` writes one") from None
    except OSError as error:
        raise EdgecifarError(f"{path}: {error.strerror}: give a result file") from error
    return parse(text, path, kind=kind)


def parse(text: bytes, path: Path | str, *, kind: str = "bench") -> dict[str, Any]:
    """Read a result's bytes; ``path`` names it in errors, which are those of `read`."""
    try:
        result = json.loads(text)
        found = checksum(result) if isinstance(result, dict) else None
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
        raise EdgecifarError(
            f"{path} is not valid JSON ({error}): give a file that `edgecifar bench --json` wrote"
        ) from error
    if not isinstance(result, dict) or result.get("kind") != kind:
        raise EdgecifarError(f"{path} is not a {kind} result: give a file that was written as one")
    if result.get("schema") != SCHEMA:
        raise EdgecifarError(
            f"{path} has schema {result.get('schema')} and this edgecifar reads {SCHEMA}: "
            "write it again with this version"
        )
    if result.get(_CHECKSUM) != found:
        raise EdgecifarError(
            f"{path} isn't what was measured (its checksum differs): measure it again"
        )
    if kind == "bench":
        # So that results of different versions of this package can be compared.
        derive_from_rounds(result.get("models") or ())
    return result


def derive_from_rounds(models: Iterable[dict[str, Any]]) -> None:
    """Compute medians, ratios and their intervals from the rounds of files that have them."""
    rows = [row for row in models if row.get("rounds_us")]
    for row in rows:
        found = median_of(np.array(row["rounds_us"]))
        row["latency_us"] |= {"median": found.value, "low": found.low, "high": found.high}
        if row.get("ratio"):
            row["ratio"] = asdict(paired_ratio(row["rounds_us"], rows[0]["rounds_us"]))


def pack_classes(classes: np.ndarray, count: int) -> str:
    """Encode one class an image, int [N] below ``count``: base64 of bytes, or of uint16."""
    return base64.b64encode(classes.astype(_class_type(count)).tobytes()).decode()


def unpack_classes(text: str, count: int) -> np.ndarray:
    """Undo `pack_classes`, int64 [N]. Raises ValueError."""
    raw = base64.b64decode(text, validate=True)
    return np.frombuffer(raw, _class_type(count)).astype(np.int64)


def pack_bits(bits: np.ndarray) -> str:
    """Encode bool [N] as base64, the first in the highest bit of the first byte."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpack_bits(text: str, count: int) -> np.ndarray:
    """Undo `pack_bits`, bool [count]. Raises ValueError."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(raw) != -(-count // 8):
        raise ValueError(f"{len(raw)} bytes can't hold {count} answers")
    return np.unpackbits(raw, count=count).astype(bool)


def _class_type(count: int) -> str:
    return "u1" if count <= 256 else "<u2"
