"""What the page shows of a bench: its verdict or its front, numbers, tables and trade-offs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecifar.benchmarks import words
from edgecifar.benchmarks.report import figures, tables
from edgecifar.benchmarks.report.asked import Asked, asked
from edgecifar.benchmarks.report.figures import Point
from edgecifar.benchmarks.report.front import Front, Place, front
from edgecifar.benchmarks.report.load import Bench
from edgecifar.benchmarks.report.origins import Facts, bench_origin, device_name
from edgecifar.benchmarks.report.svg import Plot
from edgecifar.benchmarks.report.tables import Table
from edgecifar.benchmarks.report.verdict import (
    Row,
    Verdict,
    bench_rows,
    decide,
    of_same_images,
    reference,
)

_COSTS = {"latency": "µs", "size": "kB", "energy": "mJ"}  # and their units


@dataclass(frozen=True)
class Tile:
    """A number to see first: `value`, what it is, and the two figures it comes from.

    `mark` is the data series that the drawings have it in.
    """

    value: str
    label: str
    detail: str
    mark: int | None = None


@dataclass(frozen=True)
class BenchView:
    """One bench as the page shows it, with a verdict on one network or the front of several."""

    device: str
    doubts: tuple[str, ...]
    verdict: Verdict | Front
    tiles: tuple[Tile, ...]
    targets: Asked | None
    rows: tuple[Row, ...]
    table: Table
    plots: tuple[Plot, ...]
    origin: Facts

    @property
    def front(self) -> Front | None:
        """What files are for, if they are of several networks."""
        return self.verdict if isinstance(self.verdict, Front) else None


def bench_view(bench: Bench, key: str) -> BenchView:
    """Work out what the page shows of a bench; `key` makes the ids of its drawings unique."""
    rows = bench_rows(bench)
    found = front(bench)
    verdict, doubts = found or decide(rows), tuple(bench.raw.get("doubts") or ())
    if doubts and not found and verdict.action and verdict.chosen.latency:
        action = verdict.action[:1].lower() + verdict.action[1:]
        verdict = replace(verdict, action=f"If its times were valid: {action}")
    device = device_name(bench)
    caption = f"{len(rows)} files, {_threads(bench)}, on {device}"
    plots = [_trade_off(rows, cost, key) for cost in _COSTS]
    return BenchView(
        device,
        doubts,
        verdict,
        front_tiles(found) if found else tiles(verdict),
        asked(bench),
        rows,
        tables.results(rows, caption, compared=not found),
        tuple(plot for plot in plots if plot),
        bench_origin(bench, device),
    )


def tiles(verdict: Verdict) -> tuple[Tile, ...]:
    """Put the chosen file's three numbers first: speed, size and accuracy."""
    chosen, first = verdict.chosen, verdict.first
    versus = chosen is not first
    found = []
    if chosen.latency:
        found.append(
            _speed_tile(chosen, first)
            if versus and chosen.speedup
            else Tile(words.microseconds(chosen.latency.median), "median latency", _call(chosen))
        )
    if chosen.payload_bytes:
        found.append(
            _size_tile(chosen, first)
            if versus and chosen.size_ratio
            else Tile(words.size(chosen.payload_bytes), "size without metadata", "")
        )
    if chosen.accuracy:
        found.append(_accuracy_tile(chosen, first))
    return tuple(found)


def front_tiles(found: Front) -> tuple[Tile, ...]:
    """Put first how accurate, fast and large each file is that no other beats."""
    return tuple(_front_tile(place) for place in found.places)


def _front_tile(place: Place) -> Tile:
    row, costs = place.row, []
    if row.latency:
        costs.append(words.microseconds(row.latency.median))
    if row.payload_bytes:
        costs.append(words.size(row.payload_bytes))
    if row.own_word:
        costs.append(f"by its own word ({row.own_word})")
    value = words.percent(row.accuracy.top1) if row.accuracy else costs.pop(0)
    return Tile(value, f"{row.name}: {place.role}", ", ".join(costs), row.index)


def _speed_tile(chosen: Row, first: Row) -> Tile:
    value = chosen.speedup.value
    label = f"the speed, {'no real difference' if chosen.speedup.same else 'may be chance'}"
    if chosen.speedup.faster or chosen.speedup.slower:
        label = "faster" if chosen.speedup.faster else "slower"
    before = words.microseconds(first.latency.median) if first.latency else words.NOTHING
    detail = f"{words.microseconds(chosen.latency.median)}, first {before}"
    return Tile(words.times(1 / value if chosen.speedup.slower else value), label, detail)


def _size_tile(chosen: Row, first: Row) -> Tile:
    ratio = chosen.size_ratio
    detail = f"{words.size(chosen.payload_bytes)}, first {words.size(first.payload_bytes)}"
    label = "smaller" if ratio >= 1 else "larger"
    return Tile(words.times(max(ratio, 1 / ratio)), label, detail)


def _accuracy_tile(chosen: Row, first: Row) -> Tile:
    if chosen is first or chosen.gap is None:
        n = f"n = {chosen.accuracy.n:,}" if chosen.accuracy.n else ""
        return Tile(words.percent(chosen.accuracy.top1), "top-1", n)
    detail = f"{words.percent(chosen.accuracy.top1)}, first {words.percent(first.accuracy.top1)}"
    return Tile(words.signed(chosen.gap), "points of top-1", detail)


def _trade_off(rows: Sequence[Row], cost: str, key: str) -> Plot | None:
    # Calls of another number of images cost more, and less an image.
    alike = [row for row in rows if row.batch == reference(rows).batch]
    points = [point for row in alike if (point := _point(row, cost))]
    if len(points) < 2 or not of_same_images(alike):
        return None
    return figures.trade_off(points, cost, _COSTS[cost], f"{key}-{cost}")


def _point(row: Row, cost: str) -> Point | None:
    known = {"latency": row.latency, "size": row.payload_bytes, "energy": row.energy}[cost]
    if not known or not row.accuracy:
        return None
    value, span = known, None
    if cost == "size":
        value = row.payload_bytes / 1e3
    elif cost == "latency":
        value, span = row.latency.median, _both(row.latency.low, row.latency.high)
    top1_span = _both(row.accuracy.low, row.accuracy.high)
    return Point(row.index, row.name, value, row.accuracy.top1, span, top1_span)


def _both(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _call(row: Row) -> str:
    return "one image, one call" if row.batch == 1 else f"{row.batch} images a call"


def _threads(bench: Bench) -> str:
    threads = bench.settings.get("threads", 1)
    if isinstance(threads, list):
        return f"{' or '.join(map(str, threads))} threads"
    return "one thread" if threads == 1 else f"{threads} threads"
