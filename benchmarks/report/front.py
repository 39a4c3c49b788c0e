"""Several networks in one bench: what each file is for that no other beats, and how they compare.

No one file is the best of several networks: the fastest and the most accurate are two. What a file
is worth shows beside its own float form, beside another's file of its size, and beside the next
faster one that no other beats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgecifar.benchmarks import words
from edgecifar.benchmarks.against import nearest
from edgecifar.benchmarks.pareto import unbeaten
from edgecifar.benchmarks.report.load import Bench, Measured
from edgecifar.benchmarks.report.networks import alike, are_several, kin, originals
from edgecifar.benchmarks.report.tables import Cell, Table, difference, without_empty
from edgecifar.benchmarks.report.verdict import (
    Row,
    Statement,
    measured_rows,
    of_same_images,
    reference,
    versus,
)

FASTEST, MIDDLE, BEST = "fastest", "in between", "most accurate"
RULE = (
    "A file is beaten by another that is right at least as often and takes at most as long, as "
    "{}. Sizes are without metadata."
)
_MEASURED, _OWN_WORD = "measured here", "files say of themselves and was timed here"
_FLOAT_FORM = "its float form"
_OTHERS = "nearest in size"
_FASTER = "the next faster"
_BEATS = "which beats it"
_SAME = 0.005  # a ratio that two places would round away


@dataclass(frozen=True)
class Place:
    """A file that no other beats, and what it is for."""

    row: Row
    role: str


@dataclass(frozen=True)
class Front:
    """The files that no other beats, the fastest first, and `pairs`, what is compared with what."""

    places: tuple[Place, ...]
    reason: str
    rule: str
    pairs: Table | None

    @property
    def said(self) -> tuple[Statement, ...]:
        """What the ends of the front are, in a word each."""
        first, last = self.places[0], self.places[-1]
        if first is last:
            return (Statement(first.row.name, first.role),)
        return Statement(first.row.name, first.role), Statement(last.row.name, last.role)

    @property
    def headline(self) -> str:
        """The same in one sentence: `nano is the fastest, base the most accurate`."""
        (first, *others) = self.said
        told = [f"{first.name} is the {first.text}", *(f"{o.name} the {o.text}" for o in others)]
        return ", ".join(told)


def front(bench: Bench) -> Front | None:
    """Say what the files of several networks are for; None if all are of one network.

    Where the accuracy of a file is unknown only the fastest is told, where no latency is known the
    most accurate.
    """
    if not are_several(bench):
        return None
    rows = measured_rows(bench)
    first = bench.models[reference(rows).index]
    shown = [row for row in rows if alike(first, bench.models[row.index])]
    best = _unbeaten(shown)
    cells = tuple(_pair(bench, *pair) for pair in _pairs(bench, rows, shown, best))
    return Front(
        tuple(Place(row, _role(row, shown, best)) for row in best),
        _reason(bench, shown, best),
        RULE.format(_OWN_WORD if any(row.own_word for row in shown) else _MEASURED)
        if len(best) > 1
        else "",
        without_empty(Table(_caption(bench), _COLUMNS, cells)) if cells else None,
    )


def _unbeaten(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other beats in what is known of them all, the fastest first."""
    if not _all_known(rows):
        timed = [row for row in rows if row.latency]
        if timed:
            return [min(timed, key=lambda row: row.latency.median)]
        known = [row for row in rows if row.accuracy] if of_same_images(rows) else []
        return [max(known, key=lambda row: row.accuracy.top1)] if known else [rows[0]]
    return unbeaten(rows, lambda row: row.latency.median, lambda row: row.accuracy.top1)


def _all_known(rows: Sequence[Row]) -> bool:
    return all(row.latency and row.accuracy for row in rows) and of_same_images(rows)


def _role(row: Row, shown: Sequence[Row], best: Sequence[Row]) -> str:
    if len(best) > 1:
        return FASTEST if row is best[0] else BEST if row is best[-1] else MIDDLE
    if _all_known(shown):
        return f"{FASTEST} and the {BEST}"
    return FASTEST if row.latency else BEST if row.accuracy and of_same_images(shown) else "first"


def _reason(bench: Bench, shown: Sequence[Row], best: Sequence[Row]) -> str:
    """Say how many were compared, and which step along the front may be chance."""
    count = words.number(len(shown), "file")
    told = [f"Of {count} no other is as fast and as accurate as this one."]
    if len(best) > 1:
        told = [f"Of {count} these {len(best)} are beaten by no other in speed and accuracy both."]
    elif not of_same_images(shown):
        told = ["The accuracies are of different images, so no file is told to be best in both."]
    elif not _all_known(shown):
        if best[0].latency:
            what, blind = "accuracy", [row.name for row in shown if not row.accuracy]
        else:
            what, blind = "latency", [row.name for row in shown if not row.latency]
        of = "" if len(blind) == len(shown) else f" of {', '.join(blind)}"
        told = [f"The {what}{of} is not known, so no file is told to be best in both."]
    for faster, row in pairwise(best):
        found = versus(bench, row, faster).difference
        if found and not found.test.significant:
            told.append(
                f"That {row.name} is right more often than {faster.name}, the next faster, may be "
                f"chance ({words.signed(found.points)} points, {words.p_value(found.test.p)})."
            )
    return " ".join(told)


_Pair = tuple[Row, Row, str]  # a row, what it is compared with, and what that is to it


def _pairs(
    bench: Bench, rows: Sequence[Row], shown: Sequence[Row], best: Sequence[Row]
) -> list[_Pair]:
    """Return what is to be compared: unbeaten files first, each with what is of interest."""
    found = [*_float_forms(bench, rows), *_others(bench, rows)]
    known = {frozenset((row.index, base.index)) for row, base, _ in found}
    for faster, row in pairwise(best):
        if frozenset((row.index, faster.index)) not in known:
            found.append((row, faster, _FASTER))
    known = {index for row, base, _ in found for index in (row.index, base.index)}
    known |= {row.index for row in best}
    found += [(row, *_better(row, shown, best)) for row in shown if row.index not in known]
    order = {row.index: place for place, row in enumerate(best)}
    return sorted(found, key=lambda pair: (order.get(pair[0].index, len(order)), pair[0].index))


def _float_forms(bench: Bench, rows: Sequence[Row]) -> Iterator[_Pair]:
    for index, base in originals(bench).items():
        yield rows[index], rows[base], _FLOAT_FORM


def _others(bench: Bench, rows: Sequence[Row]) -> Iterator[_Pair]:
    """Yield our int8 files, each with the foreign one that is `nearest` in size.

    Foreign are those that say nothing of themselves, beside some that do.
    """
    for row, model in zip(rows, bench.models, strict=True):
        if not model.metadata or model.error or kin(model).is_float or not row.payload_bytes:
            continue
        peers = [other for other in rows if _is_peer(bench.models[other.index], model)]
        if peers:
            yield row, nearest(row.payload_bytes, peers, lambda peer: peer.payload_bytes), _OTHERS


def _is_peer(other: Measured, model: Measured) -> bool:
    if other.metadata or not other.payload_bytes or not alike(other, model):
        return False
    same = [(m.raw.get("input") or {}).get("dtype") for m in (other, model)]
    return same[0] == same[1] and not kin(other).is_float


def _better(row: Row, shown: Sequence[Row], best: Sequence[Row]) -> tuple[Row, str]:
    """Return the most accurate file that takes at most as long as `row`, and what it is to that."""
    if not _all_known(shown):
        return best[0], f"the {_role(best[0], shown, best)}"
    return [b for b in best if b.latency.median <= row.latency.median][-1], _BEATS


_COLUMNS = (
    "File, and what it is compared with",
    "Top-1, points",
    "Same answers",
    "Latency",
    "Size",
)


def _caption(bench: Bench) -> str:
    images = f"on the same {bench.data['n']:,} images " if bench.data.get("n") else ""
    return f"Compared {images}in the same run, with 95 % intervals"


def _pair(bench: Bench, row: Row, base: Row, why: str) -> tuple[Cell, ...]:
    found = versus(bench, row, base)
    told = f"{base.kind}, {why}" if why == _OTHERS else why
    return (
        Cell(row.name, f"against {base.name}, {told}", row.index),
        _points(found),
        _agreement(bench, row, base) if why == _FLOAT_FORM else Cell(words.NOTHING),
        _latency(found),
        _size(found, base),
    )


def _points(found: Row) -> Cell:
    cell = difference(found)
    return Cell(cell.text, cell.detail.replace("\n", ", "))


def _agreement(bench: Bench, row: Row, base: Row) -> Cell:
    first, second = (bench.models[which.index].predicted for which in (row, base))
    if first is None or second is None:
        return Cell(words.NOTHING)
    return Cell(words.percent(100 * float(np.mean(first == second))))


def _latency(found: Row) -> Cell:
    speed = found.speedup
    if speed is None:
        return Cell(words.NOTHING)
    if speed.slower:
        low, high = (1 / bound if bound else None for bound in (speed.high, speed.low))
        return Cell(f"{words.times(1 / speed.value)} slower", words.ratios(low, high))
    told = "no real difference" if speed.same else "may be chance"
    if speed.faster:
        told = f"{words.times(speed.value)} faster"
    return Cell(told, words.ratios(speed.low, speed.high))


def _size(found: Row, base: Row) -> Cell:
    if not found.size_ratio:
        return Cell(words.size(found.payload_bytes))
    told = "smaller" if found.size_ratio > 1 else "larger"
    ratio = max(found.size_ratio, 1 / found.size_ratio)
    text = f"{words.times(ratio)} {told}" if ratio > 1 + _SAME else "the same"
    return Cell(text, f"{words.size(found.payload_bytes)}, {words.size(base.payload_bytes)}")
