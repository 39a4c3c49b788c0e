"""The results as tables: cells for the page, and Markdown for a README."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecifar.benchmarks import words
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.report.load import Run
from edgecifar.benchmarks.report.verdict import Row


@dataclass(frozen=True)
class Cell:
    """What a cell says, and on a second, smaller line; `mark` is a data series to be shown.

    What is `strong` should not be overlooked.
    """

    text: str
    detail: str = ""
    mark: int | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A captioned table. The first column names the row; others hold numbers, but for `texts`."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    texts: tuple[str, ...] = ()


def results(rows: Sequence[Row], caption: str, *, compared: bool = True) -> Table:
    """Tabulate the files of a bench; columns that would be empty are left out.

    If they aren't `compared` with the first of them, only what is their own is shown.
    """
    columns = (
        "File", "Top-1", "Against the first", "Confidence off by", "Median", "p90", "Speed",
        "Size", "Peak memory", "Energy",
    )  # fmt: skip
    # One unit a column, that of the fastest, so that numbers can be compared at a glance.
    unit = words.time_unit(min((row.latency.median for row in rows if row.latency), default=0))
    if not compared:
        rows = [replace(row, speedup=None, gap=None, size_ratio=None) for row in rows]
    table = without_empty(Table(caption, columns, tuple(_result(row, unit) for row in rows)))
    return table if compared else _without(table, "Speed")


def training(runs: Sequence[Run], rows: Sequence[Row], caption: str) -> Table:
    """Tabulate runs: what was trained, how good it is, what it took."""
    columns = (
        "Run", "Top-1", "Against the first", "Validation", "Loss", "ECE as trained", "Parameters",
        "Epochs", "Training time",
    )  # fmt: skip
    cells = tuple(_run(run, row) for run, row in zip(runs, rows, strict=True))
    return without_empty(Table(caption, columns, cells))


def parity(entries: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """Tabulate what each exported file's metadata says of its agreement with Keras."""
    columns = (
        "File", "Same class as Keras", "Largest difference", "Mean difference",
        "Most changed class", "Images",
    )  # fmt: skip
    rows = tuple(_parity(name, values) for name, values in entries.items())
    return without_empty(Table(caption, columns, rows))


def markdown(table: Table) -> str:
    """Give the table as GitHub's Markdown."""
    rows = [[_one_line(cell) for cell in row] for row in table.rows]
    return markdown_table([table.columns, *rows]) + "\n"


def _result(row: Row, unit: str) -> tuple[Cell, ...]:
    name = Cell(row.name, f"failed: {row.error}" if row.error else row.kind, row.index)
    return (
        name,
        _accuracy(row),
        difference(row),
        _calibration(row),
        *_times(row, unit),
        _speed(row),
        _size(row),
        Cell(words.size(row.peak_bytes)),
        Cell(words.NOTHING if row.energy is None else words.millijoules(row.energy)),
    )


def _run(run: Run, row: Row) -> tuple[Cell, ...]:
    info, metrics = run.info, run.metrics.get(run.split or "", {})
    validation = run.metrics.get("validation", {})
    kept, architecture = info.get("best_epoch"), info.get("architecture") or ""
    loss, ece = metrics.get("loss"), metrics.get("ece")
    return (
        Cell(run.name, "" if architecture == run.name else architecture),
        _accuracy(row),
        difference(row),
        Cell(words.percent(validation.get("top1"))),
        Cell(words.NOTHING if loss is None else f"{loss:.3f}"),
        Cell(words.NOTHING if ece is None else words.percent(100 * ece)),
        Cell(
            f"{info['parameters']:,}" if info.get("parameters") else words.NOTHING,
            f"{words.count(info['macs'])} MACs" if info.get("macs") else "",
        ),
        Cell(_epochs(run), "" if kept is None else f"epoch {kept} kept"),
        Cell(words.training_time(info), "\n".join(words.training(info))),
    )


def _parity(name: str, values: Mapping[str, Any]) -> tuple[Cell, ...]:
    differences = (values.get("largest_difference"), values.get("mean_difference"))
    return (
        Cell(name),
        Cell(words.percent(values.get("agreement"))),
        *(Cell(words.NOTHING if d is None else f"{d:.2g}") for d in differences),
        Cell(_most_changed(values.get("per_class"))),
        Cell(f"{values['n']:,}" if values.get("n") else words.NOTHING),
    )


def _most_changed(changes: Mapping[str, float] | None) -> str:
    """Name the class whose accuracy the export moved most, with the change in points."""
    if not changes:
        return words.NOTHING
    most = max(changes, key=lambda label: abs(changes[label]))
    return f"{most}: {words.signed(changes[most])}" if changes[most] else "none"


def _epochs(run: Run) -> str:
    epochs = run.history.get("epoch")
    return words.NOTHING if epochs is None else str(len(epochs))


def _accuracy(row: Row) -> Cell:
    if row.accuracy is None:
        return Cell(words.NOTHING)
    detail = words.percents(row.accuracy.low, row.accuracy.high)
    if row.own_word:
        detail = f"{detail}, by its own word ({row.own_word})".lstrip(", ")
    return Cell(words.percent(row.accuracy.top1), detail)


def difference(row: Row) -> Cell:
    """Give the difference in top-1 from the row that it was compared with."""
    if row.gap is None:
        return Cell(words.NOTHING)
    if row.difference is None:
        return Cell(words.signed(row.gap), "no paired test")
    span = words.interval(row.difference.low, row.difference.high, words.signed)
    return Cell(words.signed(row.gap), f"{span}\n{words.p_value(row.difference.test.p)}")


def _calibration(row: Row) -> Cell:
    ece = row.accuracy and row.accuracy.ece
    return Cell(words.NOTHING if ece is None else f"{100 * ece:.2f}{words.SPACE}points")


def _times(row: Row, unit: str) -> tuple[Cell, Cell]:
    """Give the median with its interval, and the slowest tenth and hundredth."""
    if row.latency is None:
        return Cell(words.NOTHING), Cell(words.NOTHING)
    time = row.latency
    bare = f"{words.SPACE}{unit}"  # once a cell is enough
    span = words.interval(time.low, time.high, lambda value: words.microseconds(value, unit))
    tail = f"p99 {words.microseconds(time.p99, unit)}" if time.p99 is not None else ""
    median = Cell(words.microseconds(time.median, unit), span.replace(bare, ""))
    return median, Cell(words.microseconds(time.p90, unit), tail.replace(bare, ""))


def _speed(row: Row) -> Cell:
    if row.speedup is None:
        first = row.latency and not row.against
        return Cell("1", "the first") if first else Cell(words.NOTHING)
    span = words.ratios(row.speedup.low, row.speedup.high)
    value = row.speedup.value
    return Cell(f"{value:.{words.ratio_places(value)}f}{words.TIMES}", span)


def _size(row: Row) -> Cell:
    """Give the model's size, how much smaller that is, and the file's own where metadata count."""
    told = [f"{words.times(row.size_ratio)} smaller"] if (row.size_ratio or 0) > 1.05 else []
    if row.file_bytes and row.file_bytes != row.payload_bytes:
        told.append(f"file {words.size(row.file_bytes)}")
    return Cell(words.size(row.payload_bytes), "\n".join(told))


def without_empty(table: Table) -> Table:
    """Leave out the columns that say nothing of any row."""
    columns = zip(table.columns, zip(*table.rows, strict=True), strict=True)
    return _without(table, *(name for name, cells in columns if not any(map(_says, cells))))


def _without(table: Table, *names: str) -> Table:
    keep = [i for i, name in enumerate(table.columns) if name not in names]
    rows = tuple(tuple(row[i] for i in keep) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in keep), rows=rows)


def _says(cell: Cell) -> bool:
    return cell.text != words.NOTHING


def _one_line(cell: Cell) -> str:
    return f"{cell.text} ({', '.join(cell.detail.splitlines())})" if cell.detail else cell.text
