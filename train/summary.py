"""What a run came to, as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from edgecifar.runtime.statistics import wilson
from edgecifar.train.console import plain_console
from edgecifar.train.run import Run


def print_run(run: Run) -> None:
    """Print a run's figures and where it lies."""
    from rich.table import Table

    info = run.info
    table = Table(title=run.name, show_header=False)
    table.add_row("architecture", info["architecture"])
    table.add_row("parameters", f"{info['parameters']:,}")
    table.add_row("MACs", f"{info['macs']:,}")
    table.add_row("best epoch", f"{info['best_epoch']} of {info['epochs']}")
    speed = f", {info['images_per_second']:.0f} images/s" if info["images_per_second"] else ""
    table.add_row("training", f"{training_seconds(info):.0f} s{speed}")
    if "top1" in (head := info.get("head") or {}):
        table.add_row("its head alone", f"{head['top1']:.2f} % of the validation images")
    if dropped := info.get("dropped"):
        table.add_row("its last layers too", f"{dropped['top1']:.2f} %, which is less: dropped")
    for split, figures in run.metrics.items():
        table.add_row(split, describe_accuracy(figures))
    table.add_row("folder", str(run.path))
    console = plain_console()
    console.print(table)
    mend = (
        "train for more epochs, or in smaller batches. Batch normalisation settles after some "
        "hundreds of them."
    )
    if told := told_of_chance(run.metrics["validation"], mend):
        console.print(told)


def training_seconds(info: Mapping[str, Any]) -> float | None:
    """Return the time that a run was trained for: of transfer learning, that of both phases."""
    seconds, head = info.get("train_seconds"), info.get("head") or {}
    # The run tells of the head itself where that is all there was, or was better.
    frozen = (info.get("transfer") or {}).get("unfreeze") == 0
    other = info.get("dropped") or ({} if frozen else head)
    both = (other.get("train_seconds", 0), head.get("feature_seconds", 0))
    return seconds and seconds + sum(both)


def told_of_chance(figures: dict, mend: str) -> str | None:
    """Return a line if the validation top-1 may be that of always giving the same answer.

    It ends in `mend`, unless so few images couldn't tell even if all answers were right.
    """
    commonest = max(figures["per_class"], key=lambda row: row["support"])
    n, known = figures["n"], commonest["support"]
    if figures["low"] > 100 * known / n:
        return None
    than = "better than naming the commonest class"
    if wilson(n, n).low <= 100 * known / n:
        return (
            f"{n:,} validation images, {known:,} of them `{commonest['name']}`, are too few to "
            f"tell whether that is {than}: add images"
        )
    return f"the validation top-1 is not surely {than}: {mend}"


def describe_accuracy(figures: dict) -> str:
    """Return such as `89.10 % (88.2 to 89.9, n = 5,000)`: top-1 with its 95 % interval."""
    return (
        f"{figures['top1']:.2f} % ({figures['low']:.2f} to {figures['high']:.2f}, "
        f"n = {figures['n']:,})"
    )
