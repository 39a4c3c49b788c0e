"""A file against another in one result of `edgecifar bench`; ours against MLPerf Tiny's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgecifar.benchmarks.compare import relative
from edgecifar.benchmarks.statistics import PairedDifference, paired_difference
from edgecifar.runtime.results import unpack_bits
from edgecifar.runtime.statistics import Estimate

PEERS = {
    "pretrainedResnet": "ResNet-8 float32",
    "pretrainedResnet_quant": "ResNet-8 int8",
    "pretrainedResnet_large_float": "large float32",
    "pretrainedResnet_large_int8": "large int8",
}
"""MLPerf Tiny's models for image classification, by their files."""

Row = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Versus:
    """A file of ours and a peer's, or another.

    `difference` is ours minus theirs, image by image; None if the accuracy of one is unknown.
    """

    ours: Row
    peer: Row
    difference: PairedDifference | None

    @property
    def latency(self) -> Estimate:
        """Our latency over the peer's."""
        return relative(self.ours, self.peer)

    @property
    def peer_name(self) -> str:
        """What the peer's model is called, and that it is smaller if ours is larger than all."""
        name = f"MLPerf Tiny's {PEERS[file_stem(self.peer)]}"
        larger = self.ours["payload_bytes"] > self.peer["payload_bytes"]
        return f"{name}, the largest it has" if larger else name


def versus(result: Mapping[str, Any], sha256: str) -> Versus | None:
    """Compare a file with a peer's; None unless the result has measured both.

    That is the int8 file of theirs that is `nearest` in size.
    """
    ours = row_of(result, sha256)
    peers = [row for row in peer_rows(result) if row["input"]["dtype"] == "int8"]
    if ours is None or not peers:
        return None
    return compared(ours, nearest(ours["payload_bytes"], peers, lambda row: row["payload_bytes"]))


def nearest(size: int, others: Sequence[T], size_of: Callable[[T], int]) -> T:
    """Return the smallest of `others` that is no smaller than `size`, else the largest."""
    ordered = sorted(others, key=size_of)
    return next((other for other in ordered if size_of(other) >= size), ordered[-1])


def compared(ours: Row, peer: Row) -> Versus:
    """Compare two timed files of one result."""
    if not (ours["accuracy"] and peer["accuracy"]):
        return Versus(ours, peer, None)
    right = [unpack_bits(r["accuracy"]["correct"], r["accuracy"]["n"]) for r in (peer, ours)]
    return Versus(ours, peer, paired_difference(*right))


def row_of(result: Mapping[str, Any], sha256: str) -> Row | None:
    """Return the row of the file with this SHA-256, None if it wasn't measured."""
    for row in result["models"]:
        if row.get("sha256") == sha256 and row.get("latency_us") and row.get("accuracy"):
            return row
    return None


def peer_rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the measured rows of the peer's models."""
    rows = (row for row in result["models"] if file_stem(row) in PEERS)
    return [row for row in rows if row.get("latency_us") and row.get("accuracy")]


def file_stem(row: Row) -> str:
    """Return the name of the row's file without folder and suffix."""
    return Path(row["file"]).stem
