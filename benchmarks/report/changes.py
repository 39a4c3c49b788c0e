"""What changed against the float form or the first file, image by image, and device by device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecifar.benchmarks import words
from edgecifar.benchmarks.compare import class_changes
from edgecifar.benchmarks.report.load import Bench, Run
from edgecifar.benchmarks.report.networks import are_several, bases, originals
from edgecifar.benchmarks.report.origins import device_name
from edgecifar.benchmarks.report.runs import data_uri
from edgecifar.benchmarks.report.tables import Cell, Table
from edgecifar.benchmarks.report.verdict import Row, bench_rows

_CLASSES = 12  # columns that a page has room for: those that moved most
_FLIPS = 12  # images shown a file


@dataclass(frozen=True)
class Flip:
    """An image that two files answer differently: a data URI, and what each said."""

    image: str
    true: str
    first: str
    now: str

    @property
    def text(self) -> str:
        """What happened, in a few words."""
        return f"{self.true}: {self.first}, now {self.now}"


@dataclass(frozen=True)
class Flips:
    """The images that a file answers otherwise than what it is compared with."""

    name: str
    summary: str
    images: tuple[Flip, ...]


@dataclass(frozen=True)
class ChangeView:
    """One bench's changes as the page shows them, `against` what."""

    device: str
    against: str
    classes: Table | None
    flips: tuple[Flips, ...]


def change_views(
    benches: Sequence[Bench], runs: Sequence[Run], images: np.ndarray | None
) -> tuple[ChangeView, ...]:
    """Work out the changes of each bench that kept its answers; `images` as for the runs."""
    views = [change_view(b, images if _fits(b, runs, images) else None) for b in benches]
    return tuple(view for view in views if view.classes or view.flips)


def change_view(bench: Bench, images: np.ndarray | None) -> ChangeView:
    """Compare the answers of each file with those of its float form, else of the first."""
    labels, said = bench.labels, {i: model.predicted for i, model in enumerate(bench.models)}
    against = "the float form" if are_several(bench) and originals(bench) else "the first file"
    compared = [
        (row, said[base])
        for row, base in ((row, bases(bench).get(row.index)) for row in bench_rows(bench))
        if base is not None and said[row.index] is not None and said[base] is not None
    ]
    if labels is None or not compared:
        return ChangeView(device_name(bench), against, None, ())
    flips = tuple(_flips(bench, row, base, labels, images) for row, base in compared)
    table = _class_table(bench, compared, labels, against)
    return ChangeView(device_name(bench), against, table, flips)


def device_table(benches: Sequence[Bench]) -> Table | None:
    """Set the devices side by side: median latency of each file, and whether answers agree."""
    if len(benches) < 2:
        return None
    found = [{row.name: row for row in bench_rows(bench)} for bench in benches]
    names = list(dict.fromkeys(name for rows in found for name in rows))
    cells = tuple(
        (
            Cell(name),
            *(_on_device(rows.get(name)) for rows in found),
            _agreement(name, benches, found),
        )
        for name in names
    )
    columns = ("File", *(device_name(bench) for bench in benches), "Answers")
    return Table("Median latency of one call on each device", columns, cells)


def _on_device(row: Row | None) -> Cell:
    if row is None:
        return Cell(words.NOTHING)
    if row.latency is None:
        return Cell(words.NOTHING, "failed" if row.error else "not timed")
    speed = f"{words.times(row.speedup.value)} of {row.against}" if row.speedup else ""
    return Cell(words.microseconds(row.latency.median), speed)


def _agreement(name: str, benches: Sequence[Bench], found: Sequence[Mapping[str, Row]]) -> Cell:
    """Say whether the devices gave a file's answers alike, where they saw the same images."""
    told = []
    for bench, rows in zip(benches, found, strict=True):
        predicted = bench.models[rows[name].index].predicted if name in rows else None
        if predicted is not None:
            seen = bench.data.get("fingerprint"), bench.data.get("labels")  # in the same order
            told.append((seen, predicted))
    if len(told) < 2 or len({(identity, len(answers)) for identity, answers in told}) > 1:
        return Cell(words.NOTHING)
    other = max(int((answers != told[0][1]).sum()) for _, answers in told[1:])
    return Cell("the same" if not other else f"{other:,} differ", f"n = {len(told[0][1]):,}")


def _class_table(
    bench: Bench, compared: Sequence[tuple[Row, np.ndarray]], labels: np.ndarray, against: str
) -> Table:
    changes = {}
    for row, base in compared:
        right = base == labels, bench.models[row.index].predicted == labels
        changes[row.index] = dict(class_changes(right, labels, bench.classes))
    largest = {
        name: max(abs(moved.get(name, 0.0)) for moved in changes.values()) for name in bench.classes
    }
    shown = sorted(bench.classes, key=lambda name: -largest[name])[:_CLASSES]
    columns = tuple(name for name in bench.classes if name in shown)
    cells = tuple(
        (
            Cell(row.name, row.kind, row.index),
            *(Cell(words.signed(changes[row.index].get(name, 0.0))) for name in columns),
        )
        for row, _ in compared
    )
    left_out = len(bench.classes) - len(columns)
    rest = f"; {left_out} classes that moved less are left out" if left_out else ""
    caption = f"Accuracy by class, in points against {against}{rest}"
    return Table(caption, ("File", *columns), cells)


def _flips(
    bench: Bench, row: Row, base: np.ndarray, labels: np.ndarray, images: np.ndarray | None
) -> Flips:
    predicted = bench.models[row.index].predicted
    which = np.flatnonzero(predicted != base)
    lost = int(((base == labels) & (predicted != labels)).sum())
    won = int(((base != labels) & (predicted == labels)).sum())
    neither = len(which) - lost - won
    summary = (
        f"{len(which):,} of {len(labels):,} images answered otherwise: {lost:,} wrong now, "
        f"{won:,} right now, {neither:,} wrong before and after."
    )
    # Those that became wrong come before those that became right.
    order = sorted(which.tolist(), key=lambda i: (base[i] != labels[i], predicted[i] == labels[i]))
    names = bench.classes
    shown = () if images is None else order[:_FLIPS]
    examples = [
        Flip(data_uri(images[i]), names[labels[i]], names[base[i]], names[predicted[i]])
        for i in shown
    ]
    return Flips(f"{row.name} against {row.against}", summary, tuple(examples))


def _fits(bench: Bench, runs: Sequence[Run], images: np.ndarray | None) -> bool:
    """Tell whether `images` are the bench's, in its order: the runs' labels give them away."""
    labels = bench.labels
    if images is None or labels is None or len(images) < len(labels):
        return False
    known = [run.labels for run in runs if run.split == "test" and run.labels is not None]
    if not known:
        return not runs
    return any(np.array_equal(one[: len(labels)], labels) for one in known)
