"""What files are to reach against others, and whether they do, all in one result of `bench`.

Targets stand in a TOML file beside the result, `NAME.toml` for `NAME.json`:

    [[targets]]
    file = "advanced-qat-int8.tflite"
    against = "advanced-float32.tflite"
    points = -0.1      # of top-1, paired by image; top1, agreement, faster, bytes, zipped likewise
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.benchmarks.documents.against import Row, Versus, compared
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.report import words
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import unpack_classes
from edgecifar.train.recipe import did_you_mean, from_mapping, read_toml

_HEADER = (
    "file", "against", "top-1 %", "points of it", "same answers", "faster", "bytes", "zipped", "",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What `file` is to reach against another; what is None is shown and not judged.

    `top1` is the least percentage of right answers, `points` of it are the least that may be won
    (or, below zero, the most that may be lost), `agreement` the least percentage of images with
    the same answer, `faster` the least quotient of median latencies, `bytes` and `zipped` the most
    that the payload may be of the other's, as it is and compressed.
    """

    file: str
    against: str
    top1: float | None = None
    points: float | None = None
    agreement: float | None = None
    faster: float | None = None
    bytes: float | None = None
    zipped: float | None = None


@dataclass(frozen=True)
class Targets:
    """The targets of one result."""

    targets: tuple[Target, ...]


def read_targets(path: Path) -> tuple[Target, ...]:
    """Read a TOML file of targets; EdgecifarError if there is none or it can't be read."""
    if not path.is_file():
        raise EdgecifarError(f"{path} is missing: state there what the table is to judge")
    stated = read_toml(path.read_text(encoding="utf-8"), where=path.name)
    return from_mapping(Targets, stated).targets


def targets_table(result: Mapping[str, Any], targets: tuple[Target, ...]) -> str:
    """Return a Markdown table of what was reached of each target, missed ones included.

    What was measured of no file has no column. Raises EdgecifarError if a target names a file that
    isn't in the result.
    """
    rows = [_row(result, target) for target in targets]
    known = [any(cell != words.NOTHING for cell in column) for column in zip(*rows, strict=True)]
    shown = [tuple(compress(row, known)) for row in (_HEADER, *rows)]
    return markdown_table(shown) + "\n"


def _row(result: Mapping[str, Any], target: Target) -> tuple[str, ...]:
    pair = compared(*(_named(result, name) for name in (target.file, target.against)))
    cells, missed = [], []
    for name, shown, reached in _reached(result, pair):
        asked = getattr(target, name)
        if asked is None:
            cells.append(shown)
            continue
        at_most = name in ("bytes", "zipped")
        met = reached <= asked if at_most else reached >= asked
        cells.append(f"{shown}, asked {_FORMS[name](asked)}")
        missed += [] if met else [_TITLES[name]]
    judged = any(getattr(target, name) is not None for name in _FORMS)
    verdict = f"**missed: {', '.join(missed)}**" if missed else "met" if judged else ""
    return (f"`{target.file}`", f"`{target.against}`", *cells, verdict)


def _reached(result: Mapping[str, Any], pair: Versus) -> Iterator[tuple[str, str, float]]:
    """Give the name of each target, and what was measured for it, shown and as a number."""
    points, latency = pair.difference, pair.latency
    if pair.ours.get("accuracy"):
        top1 = pair.ours["accuracy"]["top1"]
        yield "top1", _percent(top1), top1
    else:
        yield "top1", words.NOTHING, -np.inf
    if points:
        interval = f"{words.signed(points.low)} to {words.signed(points.high)}"
        yield "points", f"{words.signed(points.points)} ({interval})", points.points
        count = len(result["data"]["classes"])
        said = [unpack_classes(r["accuracy"]["predicted"], count) for r in (pair.ours, pair.peer)]
        same = 100 * float(np.mean(said[0] == said[1]))
        yield "agreement", _percent(same), same
    else:
        yield from (("points", words.NOTHING, -np.inf), ("agreement", words.NOTHING, -np.inf))
    faster, slowest, fastest = (1 / n for n in (latency.value, latency.high, latency.low))
    yield "faster", f"{faster:.2f}x ({slowest:.2f} to {fastest:.2f})", faster
    for name, key in (("bytes", "payload_bytes"), ("zipped", "zipped_bytes")):
        if key in pair.ours and key in pair.peer:
            share = pair.ours[key] / pair.peer[key]
            yield name, _FORMS[name](share), share
        else:  # of a bench that didn't compress yet
            yield name, words.NOTHING, np.inf


def _named(result: Mapping[str, Any], name: str) -> Row:
    rows = {Path(row["file"]).name: row for row in result["models"]}
    if name not in rows:
        raise EdgecifarError(f"no file {name!r} in the result{did_you_mean(name, rows)}")
    return rows[name]


def _share(value: float) -> str:
    return f"{value:.2f}x"


def _percent(value: float) -> str:
    return f"{value:.2f} %"


_FORMS = {
    "top1": _percent,
    "points": words.signed,
    "agreement": _percent,
    "faster": _share,
    "bytes": _share,
    "zipped": _share,
}
_TITLES = {
    "top1": "top-1",
    "points": "points",
    "agreement": "same answers",
    "faster": "speed",
    "bytes": "bytes",
    "zipped": "zipped bytes",
}
