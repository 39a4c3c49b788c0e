"""What files are to reach against others, and whether they do, all in one result of `bench`.

Targets stand in a TOML file beside the result, `NAME.toml` for `NAME.json`:

    [[targets]]
    file = "advanced-qat-int8.tflite"
    against = "advanced-float32.tflite"
    points = -0.1      # of top-1, paired by image; top1, agreement, faster, bytes, zipped likewise
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.benchmarks import words
from edgecifar.benchmarks.against import Row, Versus, compared
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.results import unpack_classes
from edgecifar.train.parsing import did_you_mean, from_mapping, load_toml, require

COLUMNS = ("top-1 %", "points of it", "same answers", "faster", "bytes", "zipped")  # of figures


@dataclass(frozen=True)
class Target:
    """What `file` is to reach against another; what is None is shown and not judged.

    `top1` is the least percentage of right answers, `points` of it are the least that may be won
    (or, below zero, the most that may be lost), `agreement` the least percentage of images with
    the same answer, `faster` the least quotient of median latencies, `bytes` and `zipped` the most
    that the payload may be of the other's, as it is and compressed. Doubtful times reach no speed.
    """

    file: str
    against: str
    top1: float | None = None
    points: float | None = None
    agreement: float | None = None
    faster: float | None = None
    bytes: float | None = None
    zipped: float | None = None

    def __post_init__(self) -> None:
        for name in _TITLES:
            asked = getattr(self, name)
            require(asked is None or math.isfinite(asked), name, asked, "a finite number")


@dataclass(frozen=True)
class Targets:
    """The targets of one result."""

    targets: tuple[Target, ...]


def read_targets(path: Path) -> tuple[Target, ...]:
    """Read a TOML file of targets; EdgecifarError if there is none or it can't be read."""
    if not path.is_file():
        raise EdgecifarError(f"{path} is missing: state there what the table is to judge")
    return from_mapping(Targets, load_toml(path)).targets


@dataclass(frozen=True)
class Figure:
    """What was measured for one kind of target and what is asked of it, as text.

    Interval and what is asked may be empty.
    """

    shown: str
    interval: str = ""
    asked: str = ""


_UNKNOWN = Figure(words.NOTHING)


@dataclass(frozen=True)
class Judged:
    """A target with its figures, in the order of `COLUMNS`, and the titles of those missed."""

    target: Target
    figures: tuple[Figure, ...]
    missed: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """Say `met`, what was missed, or nothing where nothing was asked."""
        if self.missed:
            return f"missed: {', '.join(self.missed)}"
        return "met" if any(figure.asked for figure in self.figures) else ""


def judge(result: Mapping[str, Any], targets: Iterable[Target]) -> tuple[Judged, ...]:
    """Compare what was measured with what is asked, target by target.

    Raises EdgecifarError if a target names a file that isn't in the result.
    """
    return tuple(_judge(result, target) for target in targets)


def targets_table(result: Mapping[str, Any], targets: tuple[Target, ...]) -> str:
    """Return a Markdown table of what was reached of each target, missed ones included.

    What was measured of no file has no column. Raises EdgecifarError if a target names a file that
    isn't in the result.
    """
    rows = [_row(judged) for judged in judge(result, targets)]
    known = [any(cell != words.NOTHING for cell in column) for column in zip(*rows, strict=True)]
    shown = [tuple(compress(row, known)) for row in (("file", "against", *COLUMNS, ""), *rows)]
    return markdown_table(shown) + "\n"


def _row(judged: Judged) -> tuple[str, ...]:
    cells = map(_cell, judged.figures)
    verdict = f"**{judged.outcome}**" if judged.missed else judged.outcome
    return (f"`{judged.target.file}`", f"`{judged.target.against}`", *cells, verdict)


def _cell(figure: Figure) -> str:
    interval = f" ({figure.interval})" if figure.interval else ""
    return f"{figure.shown}{interval}" + (f", asked {figure.asked}" if figure.asked else "")


def _judge(result: Mapping[str, Any], target: Target) -> Judged:
    pair = compared(*(_named(result, name) for name in (target.file, target.against)))
    figures, missed = [], []
    doubtful = {"faster"} if not result.get("valid", True) else set()
    for name, figure, reached in _measured(result, pair):
        asked = getattr(target, name)
        if asked is None:
            figures.append(figure)
            continue
        at_most = name in ("bytes", "zipped")
        met = reached <= asked + _ROUNDING if at_most else reached >= asked - _ROUNDING
        figures.append(replace(figure, asked=_as_stated(name, asked)))
        if name in doubtful:
            missed.append(f"{_TITLES[name]} (by doubtful times)")
        elif not met:
            missed.append(_TITLES[name])
    return Judged(target, tuple(figures), tuple(missed))


def _measured(result: Mapping[str, Any], pair: Versus) -> Iterator[tuple[str, Figure, float]]:
    """Give the name of each target, and what was measured for it, as text and as a number."""
    points = pair.difference
    if pair.ours.get("accuracy"):
        top1 = pair.ours["accuracy"]["top1"]
        yield "top1", Figure(_percent(top1)), top1
    else:
        yield "top1", _UNKNOWN, -np.inf
    if points:
        interval = f"{words.signed(points.low)} to {words.signed(points.high)}"
        yield "points", Figure(words.signed(points.points), interval), points.points
        count = len(result["data"]["classes"])
        said = [unpack_classes(r["accuracy"]["predicted"], count) for r in (pair.ours, pair.peer)]
        same = 100 * float(np.mean(said[0] == said[1]))
        yield "agreement", Figure(_percent(same)), same
    else:
        yield from (("points", _UNKNOWN, -np.inf), ("agreement", _UNKNOWN, -np.inf))
    if all(row.get("ratio") for row in (pair.ours, pair.peer)):
        latency = pair.latency
        faster, slowest, fastest = (1 / n for n in (latency.value, latency.high, latency.low))
        yield "faster", Figure(f"{faster:.2f}x", f"{slowest:.2f} to {fastest:.2f}"), faster
    else:  # an emulated board gives no times
        yield "faster", _UNKNOWN, -np.inf
    for name, key in (("bytes", "payload_bytes"), ("zipped", "zipped_bytes")):
        if key in pair.ours and key in pair.peer:
            share = pair.ours[key] / pair.peer[key]
            yield name, Figure(_FORMS[name](share)), share
        else:  # of a bench that didn't compress yet
            yield name, _UNKNOWN, np.inf


def _named(result: Mapping[str, Any], name: str) -> Row:
    names = [Path(row["file"]).name for row in result["models"]]
    if name not in names:
        raise EdgecifarError(f"no file {name!r} in the result{did_you_mean(name, names)}")
    if names.count(name) > 1:
        raise EdgecifarError(
            f"{name!r} was measured {names.count(name)} times: bench files with targets under "
            "different names, with one number of threads and of images a call, and one interpreter"
        )
    found = result["models"][names.index(name)]
    return {"accuracy": None, **found}  # a file that failed has none


def _as_stated(name: str, asked: float) -> str:
    """Give what is asked with all the places that it is stated with."""
    shown = _FORMS[name](asked)
    return shown.replace(f"{abs(asked):.2f}", max(f"{abs(asked):.2f}", f"{abs(asked):g}", key=len))


def _share(value: float) -> str:
    return f"{value:.2f}x"


def _percent(value: float) -> str:
    return f"{value:.2f} %"


_ROUNDING = 1e-9  # 100 * (9540 / 10000) is a hair below 95.4
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
