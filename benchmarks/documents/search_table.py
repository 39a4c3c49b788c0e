"""A search's result as a Markdown table for a README."""

from pathlib import Path
from typing import Any

from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.pareto import unbeaten
from edgecifar.benchmarks.report import words
from edgecifar.benchmarks.search.result import KIND
from edgecifar.benchmarks.search.space import Limits
from edgecifar.runtime import results
from edgecifar.train.models.edgenet import PRESETS

_COLUMNS = (
    "",
    "shape",
    "top-1 % (95 % interval)",
    "times the reference",
    "bytes",
    "parameters",
    "MACs",
)
_FRONT = "*"  # no other trained one is both as fast and as accurate


def search_table(path: Path) -> str:
    """Return the result at `path`, the most accurate first, and a line on how it was found.

    Raises EdgecifarError if the file was changed.
    """
    result = results.read(path, kind=KIND)
    trained = [row for row in result["shapes"] if row["accuracy"]]
    front = unbeaten(trained, _latency, _top1)
    ordered = sorted(trained, key=_top1, reverse=True)
    rows = [_COLUMNS, *(_row(row, on_front=row in front) for row in ordered)]
    return f"{markdown_table(rows)}\n\n{_footnote(result, len(trained))}\n"


def _latency(row: dict[str, Any]) -> float:
    return row["cost"]["ratio"]


def _top1(row: dict[str, Any]) -> float:
    return row["accuracy"]["top1"]


def _row(row: dict[str, Any], *, on_front: bool) -> tuple[str, ...]:
    cost = row["cost"]
    names = [name for name, shape in PRESETS.items() if str(shape) == row["shape"]]
    return (
        _FRONT if on_front else "",
        f"`{row['shape']}`" + "".join(f" (`{name}`)" for name in names),
        words.accuracy(row["accuracy"]),
        f"{cost['ratio']:.2f} ({cost['low']:.2f} to {cost['high']:.2f})",
        f"{cost['bytes']:,}",
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:.1f} M",
    )


def _footnote(result: dict[str, Any], trained: int) -> str:
    settings, data = result["settings"], result["data"]
    limits = Limits(**result["limits"])
    return (
        f"{_FRONT} is on the front: no other is as fast and as accurate. {len(result['shapes'])} "
        f"shapes were measured with random weights, {trained} within `{limits}` "
        f"trained for {settings['--epochs']} epochs, once each (seed {settings['--seed']}); "
        f"{data['validation']:,} validation images of {data['name']}. Latency: of the int8 file on "
        f"one thread, in turns with the reference; {settings['machine']}, "
        f"{settings['interpreter']}."
    )
