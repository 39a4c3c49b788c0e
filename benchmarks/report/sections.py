"""What each part of the page shows, worked out from the inputs before any HTML is written."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecifar.benchmarks.report import figures, tables, words
from edgecifar.benchmarks.report.figures import Point
from edgecifar.benchmarks.report.load import Bench, Run
from edgecifar.benchmarks.report.svg import Plot
from edgecifar.benchmarks.report.tables import Table
from edgecifar.benchmarks.report.verdict import Row, Verdict, bench_rows, decide, run_rows
from edgecifar.benchmarks.statistics import calibration, confused_pairs
from edgecifar.runtime.errors import EdgecifarError

_COSTS = {"latency": "µs", "size": "kB", "energy": "mJ"}  # and their units
_PAIRS = 6
_EXAMPLES = 6  # images beside a confused pair
_TOLD_ELSEWHERE = frozenset(("schema", "name", "classes", "dataset"))
_IN_THE_TABLE = frozenset(
    ("parameters", "macs", "best_epoch", "epochs", "train_seconds", "images_per_second")
)


@dataclass(frozen=True)
class Tile:
    """A number to see first: `value`, what it is, and the two figures it comes from."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class Pair:
    """A pair of classes that was confused, with example images as data URIs."""

    true: str
    predicted: str
    count: int
    rate: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Where something comes from: short facts, and long lists that the page folds away."""

    heading: str
    facts: dict[str, str]
    folded: dict[str, dict[str, str]]


@dataclass(frozen=True)
class BenchView:
    """One bench as the page shows it."""

    device: str
    doubts: tuple[str, ...]
    verdict: Verdict
    tiles: tuple[Tile, ...]
    rows: tuple[Row, ...]
    table: Table
    plots: tuple[Plot, ...]
    origin: Facts


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it."""

    name: str
    split: str | None
    n: int | None
    curves: tuple[Plot, ...]
    matrices: tuple[Plot, ...]
    classes: Plot | None
    pairs: tuple[Pair, ...]
    reliability: Plot | None
    origin: Facts


def bench_view(bench: Bench, key: str) -> BenchView:
    """Work out what the page shows of a bench; `key` makes the ids of its drawings unique."""
    rows = bench_rows(bench)
    verdict = decide(rows)
    device = device_name(bench)
    caption = f"{len(rows)} files, {_threads(bench)}, on {device}"
    plots = [_trade_off(rows, cost, key) for cost in _COSTS]
    return BenchView(
        device,
        tuple(bench.raw.get("doubts") or ()),
        verdict,
        tiles(verdict),
        rows,
        tables.results(rows, caption),
        tuple(plot for plot in plots if plot),
        _bench_origin(bench, device),
    )


def run_view(run: Run, key: str, images: np.ndarray | None) -> RunView:
    """Work out what the page shows of a run; `images` are its test images in stored order."""
    metrics = run.metrics.get(run.split or "", {})
    matrix = np.array(metrics["confusion"]) if metrics.get("confusion") else None
    scores = metrics.get("per_class")
    names = run.classes or tuple(map(str, range(len(matrix) if matrix is not None else 0)))
    reliability = None
    if run.probabilities is not None:
        result = calibration(run.probabilities, run.labels)
        reliability = figures.reliability(result, len(run.labels), f"{key}-reliability")
    return RunView(
        run.name,
        run.split,
        metrics.get("n"),
        _curves(run, key),
        () if matrix is None else _matrices(matrix, names, key),
        figures.per_class(scores, f"{key}-classes") if scores else None,
        () if matrix is None else _pairs(run, matrix, names, images),
        reliability,
        _run_origin(run),
    )


def training_table(runs: Sequence[Run]) -> tuple[Table, tuple[Row, ...]]:
    """Tabulate runs side by side and compare them with the first."""
    rows = run_rows(runs)
    where = {run.split for run in runs}
    caption = "Figures are of the test images" if where == {"test"} else "Figures of each run"
    return tables.training(runs, rows, caption), rows


def device_name(bench: Bench) -> str:
    """Name what a bench ran on: the board, else the processor."""
    known = (bench.environment.get(key) for key in ("board", "cpu", "machine"))
    return next((str(name) for name in known if name), "an unnamed device")


def parity_entries(runs: Sequence[Run], benches: Sequence[Bench]) -> dict[str, dict]:
    """Collect what files say of their agreement with Keras, by the file's name."""
    found = {m.name: m.metadata.get("parity") for bench in benches for m in bench.models}
    found |= {e.path.name: e.metadata.get("parity") for run in runs for e in run.exports}
    return {name: values for name, values in found.items() if isinstance(values, dict) and values}


def tiles(verdict: Verdict) -> tuple[Tile, ...]:
    """Put the chosen file's three numbers first: speed, size and accuracy."""
    chosen, first = verdict.chosen, verdict.first
    versus = chosen is not first
    found = []
    if chosen.latency:
        found.append(
            _speed_tile(chosen, first)
            if versus and chosen.speedup
            else Tile(
                words.microseconds(chosen.latency.median), "median latency", "one image, one call"
            )
        )
    if chosen.file_bytes:
        found.append(
            _size_tile(chosen, first)
            if versus and chosen.size_ratio
            else Tile(words.size(chosen.file_bytes), "file size", "")
        )
    if chosen.accuracy:
        found.append(_accuracy_tile(chosen, first))
    return tuple(found)


def _speed_tile(chosen: Row, first: Row) -> Tile:
    value = chosen.speedup.value
    label = "faster" if chosen.speedup.faster else "the speed, no real difference"
    if chosen.speedup.slower:
        label = "slower"
    before = words.microseconds(first.latency.median) if first.latency else words.NOTHING
    detail = f"{words.microseconds(chosen.latency.median)}, first {before}"
    return Tile(words.times(1 / value if chosen.speedup.slower else value), label, detail)


def _size_tile(chosen: Row, first: Row) -> Tile:
    ratio = chosen.size_ratio
    detail = f"{words.size(chosen.file_bytes)}, first {words.size(first.file_bytes)}"
    label = "smaller" if ratio >= 1 else "larger"
    return Tile(words.times(max(ratio, 1 / ratio)), label, detail)


def _accuracy_tile(chosen: Row, first: Row) -> Tile:
    if chosen is first or chosen.gap is None:
        n = f"n = {chosen.accuracy.n:,}" if chosen.accuracy.n else ""
        return Tile(words.percent(chosen.accuracy.top1), "top-1", n)
    detail = f"{words.percent(chosen.accuracy.top1)}, first {words.percent(first.accuracy.top1)}"
    return Tile(words.signed(chosen.gap), "points of top-1", detail)


def _trade_off(rows: Sequence[Row], cost: str, key: str) -> Plot | None:
    points = [point for row in rows if (point := _point(row, cost))]
    if len(points) < 2:
        return None
    return figures.trade_off(points, cost, _COSTS[cost], f"{key}-{cost}")


def _point(row: Row, cost: str) -> Point | None:
    known = {"latency": row.latency, "size": row.file_bytes, "energy": row.energy}[cost]
    if not known or not row.accuracy:
        return None
    value, span = known, None
    if cost == "size":
        value = row.file_bytes / 1e3
    elif cost == "latency":
        value, span = row.latency.median, _both(row.latency.low, row.latency.high)
    top1_span = _both(row.accuracy.low, row.accuracy.high)
    return Point(row.index, row.name, value, row.accuracy.top1, span, top1_span)


def _both(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _threads(bench: Bench) -> str:
    threads = bench.settings.get("threads", 1)
    return "one thread" if threads == 1 else f"{threads} threads"


def _curves(run: Run, key: str) -> tuple[Plot, ...]:
    best = run.info.get("best_epoch")
    return tuple(
        figures.curve(run.history, quantity, best, f"{key}-{quantity}")
        for quantity in ("loss", "accuracy")
        if len(run.history.get(quantity, ()))
    )


def _matrices(matrix: np.ndarray, names: Sequence[str], key: str) -> tuple[Plot, ...]:
    counts = figures.confusion(matrix, names, rates=False, name=f"{key}-counts")
    rates = figures.confusion(matrix, names, rates=True, name=f"{key}-rates")
    return (counts, rates) if len(names) <= figures.MATRIX_TEXT else (rates,)


def _pairs(
    run: Run, matrix: np.ndarray, names: Sequence[str], images: np.ndarray | None
) -> tuple[Pair, ...]:
    if images is not None and run.labels is not None and len(images) != len(run.labels):
        raise EdgecifarError(
            f"{len(images)} images for {len(run.labels)} predictions of {run.name}: "
            "give the test images that it was evaluated on"
        )
    return tuple(
        Pair(
            names[pair.true],
            names[pair.predicted],
            pair.count,
            words.percent(100 * pair.rate),
            _examples(run, pair.true, pair.predicted, images),
        )
        for pair in confused_pairs(matrix, top=_PAIRS)
    )


def _examples(run: Run, true: int, predicted: int, images: np.ndarray | None) -> tuple[str, ...]:
    """Give the images that were confused with the most confidence, as PNG data URIs."""
    if images is None or run.probabilities is None or run.split != "test":
        return ()
    confused = (run.labels == true) & (run.probabilities.argmax(axis=1) == predicted)
    which = np.flatnonzero(confused)
    order = np.argsort(-run.probabilities[which, predicted], kind="stable")
    return tuple(data_uri(images[i]) for i in which[order][:_EXAMPLES])


def data_uri(image: np.ndarray) -> str:
    """Return an image as a small PNG inside a URI."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(image))
    picture.thumbnail((96, 96))
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _bench_origin(bench: Bench, device: str) -> Facts:
    environment = dict(bench.environment)
    told = {key: bench.raw.get(key) for key in ("device", "sessions") if bench.raw.get(key) != 1}
    folded = {
        "Settings": words.flatten(bench.settings),
        "Versions": words.versions(environment.pop("versions", None) or {}),
        "Interpreters": {m.name: m.raw.get("backend", "") for m in bench.models if not m.error},
        "SHA-256": {m.name: m.raw.get("sha256", "") for m in bench.models if not m.error},
    }
    measured = {"measured": words.moment(bench.raw.get("created"))}
    facts = words.flatten(measured | told | environment) | _data_facts(bench.data)
    return Facts(f"Bench on {device}", facts, _filled(folded))


def _run_origin(run: Run) -> Facts:
    info = dict(run.info)
    folded = {
        "Recipe": words.flatten(info.pop("recipe", None) or {}),
        "Versions": words.versions(info.pop("versions", None) or {}),
    }
    folded["Classes"] = {str(index): name for index, name in enumerate(run.classes)}
    begun = {"begun": words.moment(info.pop("created", None))}
    facts = words.flatten(
        begun | {k: v for k, v in info.items() if k not in _TOLD_ELSEWHERE | _IN_THE_TABLE}
    )
    facts |= _data_facts({**run.dataset, "classes": len(run.classes)})
    return Facts(f"Run {run.name}", facts, _filled(folded))


def _data_facts(data: Mapping[str, Any]) -> dict[str, str]:
    names = {"name": "data set", "n": "images measured", "fingerprint": "fingerprint"}
    shown = {key: value for key, value in data.items() if key != "labels"}
    shown |= {"classes": len(data["classes"])} if isinstance(data.get("classes"), list) else {}
    facts = words.flatten({names.get(key, key): value for key, value in shown.items()})
    if len(facts.get("Fingerprint", "")) > 16:
        facts["Fingerprint"] = f"{facts['Fingerprint'][:16]}…"
    return facts


def _filled(folded: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    kept = {name: {k: v for k, v in values.items() if v} for name, values in folded.items()}
    return {name: values for name, values in kept.items() if values}
