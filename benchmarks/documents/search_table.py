"""A search's result as a Markdown table for a README."""

from pathlib import Path
from typing import Any

from edgecifar.benchmarks import words
from edgecifar.benchmarks.markdown import markdown_table
from edgecifar.benchmarks.search.cost import Cost
from edgecifar.benchmarks.search.front import front_of
from edgecifar.benchmarks.search.result import KIND
from edgecifar.benchmarks.search.space import Limits
from edgecifar.benchmarks.search.trials import Trial
from edgecifar.runtime import results
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.statistics import Estimate
from edgecifar.train.models.edgenet import PRESETS, parse

_FRONT = "*"


def search_table(path: Path) -> str:
    """Return the trained shapes of the result at `path`, the most accurate first, as a table.

    A line below says how they were found. Raises EdgecifarError if the file was changed, if its
    latencies are doubtful, or if shapes were still being trained.
    """
    result = results.read(path, kind=KIND)
    if why := "; ".join([*result["doubts"], *result["unfinished"]]):
        raise EdgecifarError(
            f"{path} can't be published ({why}): search again, quietly, to the end"
        )
    limits = Limits(**result["limits"])
    rows = {parse(row["shape"]): row for row in result["shapes"] if row["accuracy"]}
    trials = [
        Trial(shape, row["accuracy"]["top1"], Cost(**row["cost"])) for shape, row in rows.items()
    ]
    within = sorted(
        (trial for trial in trials if trial.cost.meets(limits)), key=lambda trial: -trial.top1
    )
    front = front_of(within, limits)
    header = (
        "",
        "shape",
        "top-1 % (95 % interval)",
        "µs",
        f"times `{result['reference']}`",
        "bytes",
        "MACs",
    )
    lines = [_line(trial, rows[trial.shape], on_front=trial in front) for trial in within]
    return f"{markdown_table([header, *lines])}\n\n{_footnote(result, limits, len(within))}\n"


def _line(trial: Trial, row: dict[str, Any], *, on_front: bool) -> tuple[str, ...]:
    cost = trial.cost
    names = [f" (`{name}`)" for name, shape in PRESETS.items() if shape == trial.shape]
    return (
        _FRONT if on_front else "",
        f"`{trial.shape}`{''.join(names)}",
        words.accuracy(row["accuracy"]),
        f"{cost.latency_us:.1f}",
        words.ratio(Estimate(cost.ratio, cost.low, cost.high)),
        f"{cost.bytes:,}",
        f"{row['macs'] / 1e6:.1f} M",
    )


def _footnote(result: dict[str, Any], limits: Limits, trained: int) -> str:
    settings, data = result["settings"], result["data"]
    also = sum(row["also"] for row in result["shapes"])
    return (
        f"{_FRONT} is on the front: no other is as fast and as accurate. {len(result['shapes'])} "
        f"shapes were measured with random weights, {also} of them beside those drawn; {trained} "
        f"within `{limits}` were trained for {settings['--epochs']} epochs, once each (seed "
        f"{settings['--seed']}); {data['validation']:,} validation images of {data['name']}. "
        f"Latency: of the int8 file on one thread, in turns with the reference; "
        f"{settings['machine']}, {settings['interpreter']}, {result['created'][:10]}."
    )
